/* The commands of weir: one file each, one prototype each. argv[0] is the command's name; the result is the exit
 * status: 0 done, 1 failed, 2 bad usage or bad catalog. */
#ifndef WEIR_CLI_COMMANDS_H
#define WEIR_CLI_COMMANDS_H

enum { WEIR_EXIT_DONE = 0, WEIR_EXIT_FAILED = 1, WEIR_EXIT_USAGE = 2 };

int weir_command_rate(int argc, char **argv);
int weir_command_check(int argc, char **argv);
int weir_command_migrate(int argc, char **argv);
int weir_command_apply(int argc, char **argv);
int weir_command_ingest(int argc, char **argv);
int weir_command_rater(int argc, char **argv);
int weir_command_produce(int argc, char **argv);
int weir_command_reconcile(int argc, char **argv);
int weir_command_explain(int argc, char **argv);
int weir_command_release(int argc, char **argv);
int weir_command_admit(int argc, char **argv);
int weir_command_audit(int argc, char **argv);
int weir_command_rerate(int argc, char **argv);
int weir_command_backtest(int argc, char **argv);
int weir_command_recount(int argc, char **argv);
int weir_command_close(int argc, char **argv);
int weir_command_invoice(int argc, char **argv);
int weir_command_revenue(int argc, char **argv);
int weir_command_grant(int argc, char **argv);
int weir_command_void(int argc, char **argv);
int weir_command_refund(int argc, char **argv);
int weir_command_balance(int argc, char **argv);

#endif
