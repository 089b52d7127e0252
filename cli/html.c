#include "cli/html.h"

void weir_html_put(FILE *output, struct weir_slice text)
{
    for (uint32_t i = 0; i < text.length; i++)
        switch (text.data[i]) {
        case '<':
            fputs("&lt;", output);
            break;
        case '>':
            fputs("&gt;", output);
            break;
        case '&':
            fputs("&amp;", output);
            break;
        case '"':
            fputs("&quot;", output);
            break;
        case '\'':
            fputs("&#39;", output);
            break;
        default:
            fputc(text.data[i], output);
        }
}
