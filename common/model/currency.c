/* Source: ISO 4217, "List one: current currency & funds code list", as kept by SIX Group for the ISO maintenance agency
 * (https://www.six-group.com/en/products-services/financial-information/data-standards.html), state of 2026. What was
 * withdrawn since 2025 (ANG, BGN) is still here: a catalog also holds last year. Codes without a minor unit (gold, SDR,
 * testing, no currency: XAU, XDR, XTS, XXX, ...) are left out: nobody invoices in them.
 */
#include "common/model/currency.h"

/* Codes of three letters, one after the other, sorted; a list for each number of places. */
static const char zero_places[] = "BIFCLPDJFGNFISKJPYKMFKRWPYGRWFUGXUYIVNDVUVXAFXOFXPF";
static const char three_places[] = "BHDIQDJODKWDLYDOMRTND";
static const char four_places[] = "CLFUYW";
static const char two_places[] =
    "AEDAFNALLAMDANGAOAARSAUDAWGAZNBAMBBDBDTBGNBMDBNDBOBBOVBRLBSDBTNBWPBYNBZDCADCDFCHECHFCHWCNYCOPCOUCRCCUPCVECZKDKKDOP"
    "DZD"
    "EGPERNETBEURFJDFKPGBPGELGHSGIPGMDGTQGYDHKDHNLHTGHUFIDRILSINRIRRJMDKESKGSKHRKPWKYDKZTLAKLBPLKRLRDLSLMADMDLMGAMKDMMK"
    "MNTMOPMRUMURMVRMWKMXNMXVMYRMZNNADNGNNIONOKNPRNZDPABPENPGKPHPPKRPLNQARRONRSDRUBSARSBDSCRSDGSEKSGDSHPSLESOSSRDSSPSTN"
    "SVCSYPSZLTHBTJSTMTTOPTRYTTDTWDTZSUAHUSDUSNUYUUZSVEDVESWSTXCDXCGYERZARZMWZWG";

static bool holds(const char *codes, const char *code)
{
    for (; *codes; codes += 3)
        if (memcmp(codes, code, 3) == 0)
            return true;
    return false;
}

int weir_currency_places(struct weir_slice code)
{
    if (code.length != 3)
        return -1;
    if (holds(two_places, code.data))
        return 2;
    if (holds(zero_places, code.data))
        return 0;
    if (holds(three_places, code.data))
        return 3;
    return holds(four_places, code.data) ? 4 : -1;
}
