/* SPDX-License-Identifier: Apache-2.0
 *
 * What the commands share: how a command describes itself, how its words are read, how it answers, how it fails.
 * A command is data (cli_command) and one function; parsing, help, completion and man pages come from the data.
 * Output goes through a cli_report, which writes the same facts as a table, JSON, JSON lines, CSV or TSV.
 *
 * To add a command: fill a cli_command in cmd_<group>.c, list it in commands[] of kvtier.c, and run `ninja man`.
 */
#ifndef KVT_TOOLS_CLI_H
#define KVT_TOOLS_CLI_H

#include "engine/base/base.h"

#include <stdio.h>

/* ---------------------------------------------------------------- exit codes */

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILURE = 1,
    CLI_USAGE = 2,     /* a wrong word on the command line, or an input file that breaks its format */
    CLI_NOT_FOUND = 3, /* nothing under that name, or a miss */
    CLI_CORRUPT = 4,   /* stored bytes fail their check */
    CLI_BUSY = 5,      /* in use by another process */
    CLI_PARTIAL = 6,   /* only a part was done */
    CLI_INCOMPATIBLE = 7,
    CLI_TIMEOUT = 8,
    CLI_INTERRUPTED = 130
};
int cli_exit_of(kvt_status status);

/* Write `kvtier: <thing>: <message>` to standard error and give the exit code back. The message says what is wrong and,
 * behind a semicolon, the way out. */
int cli_fail(int exit_code, const char *thing, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same from cli_reason(). */
int cli_fail_status(kvt_status status, const char *thing);
/* kvt_last_error() with the library's field names as options of the command, or the status's own text when that is
 * empty. Valid until the next call. */
const char *cli_reason(kvt_status status);
/* "" for one, "s" for any other number. */
static inline const char *cli_plural(uint64_t count) { return count == 1 ? "" : "s"; }
void cli_warn(const char *thing, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ------------------------------------------------------- options of a command */

typedef struct cli_list {
    const char **items;
    size_t count;
} cli_list;

typedef enum cli_kind {
    CLI_FLAG,     /* bool */
    CLI_TEXT,     /* const char *: borrowed from argv */
    CLI_LIST,     /* cli_list: repeatable */
    CLI_SIZE,     /* uint64_t bytes: 4096, 512M, 1.5TiB (K M G T and KiB.. are powers of 1024, KB.. of 1000) */
    CLI_COUNT,    /* uint64_t */
    CLI_REAL,     /* double */
    CLI_RATE,     /* uint64_t bytes per second: a size, with /s or without */
    CLI_DURATION, /* uint64_t nanoseconds: 30s, 5m, 1h30m, 250ms */
    CLI_CHOICE    /* uint32_t: index into `value`, whose words are separated by '|'; 0 is the default */
} cli_kind;

typedef struct cli_option {
    const char *name;  /* without the dashes */
    const char *value; /* name of the value in the help ("SIZE"), words of a choice; NULL for a flag */
    const char *text;  /* one sentence without a full stop; says the default */
    size_t offset;     /* of the field in the command's args */
    cli_kind kind;
    char letter;      /* 0: none */
    const char *env;  /* environment variable that stands in for the flag, or NULL */
    double min, max;  /* of SIZE, COUNT and REAL, inclusive; both 0: any (REAL: finite and >= 0) */
    const char *noun; /* what a word of a CHOICE is; NULL: as the option is called */
} cli_option;

typedef struct cli_option_set {
    const cli_option *options;
    size_t count;
    void *args; /* fields at .offset; zeroed by the caller */
} cli_option_set;

/* Read words into args. Stops behind the first operand if `first_only`. *out_used: words consumed. Complaints go to
 * standard error. Returns CLI_OK or CLI_USAGE. Lists and operands are freed with cli_args_free and kvt_free. */
int cli_args_parse(const cli_option_set *sets, size_t set_count, int argc, char **argv, bool first_only,
                   cli_list *operands, int *out_used);
void cli_args_free(const cli_option_set *sets, size_t set_count);

bool cli_parse_size(const char *text, uint64_t *out);
bool cli_parse_rate(const char *text, uint64_t *out);
bool cli_parse_duration(const char *text, uint64_t *out_ns);
bool cli_parse_count(const char *text, uint64_t *out);
bool cli_parse_real(const char *text, double *out);
/* A size, or a percentage of `whole`: "1.5%", at most 1000%. */
bool cli_parse_share(const char *text, uint64_t whole, uint64_t *out);
/* The candidate nearest to `word` by edit distance, or NULL when none is near. */
const char *cli_suggest(const char *word, const char *const *candidates, size_t count);

/* ------------------------------------------------------------------ commands */

typedef enum cli_format {
    CLI_FORMAT_TABLE,
    CLI_FORMAT_WIDE,
    CLI_FORMAT_JSON,
    CLI_FORMAT_JSONL,
    CLI_FORMAT_CSV,
    CLI_FORMAT_TSV
} cli_format;

/* The flags every command knows. */
typedef struct cli_globals {
    const char *store;   /* -s, KVTIER_STORE; NULL: not given */
    const char *backend; /* --backend, KVTIER_BACKEND; NULL: automatic */
    uint64_t timeout_ns; /* 0: none */
    uint32_t format;     /* cli_format */
    uint32_t color;      /* 0 auto, 1 always, 2 never */
    bool json, no_header, exact, quiet, verbose, help, version;
} cli_globals;

typedef struct cli_command cli_command;
/* The command that runs: messages of the library are told with the names of its options. */
void cli_fail_for(const cli_command *command);

typedef struct cli_context {
    cli_globals global;
    const cli_command *command;
    cli_list operands;
    FILE *out; /* answers; messages and progress go to stderr */
} cli_context;

struct cli_command {
    const char *name;
    const char *group;       /* look, ask, change, care, measure, shell */
    const char *summary;     /* one line, no full stop */
    const char *operands;    /* as in the synopsis: "KEY...", "" */
    const char *description; /* paragraphs separated by an empty line */
    const char *examples;    /* one a line: "kvtier ls --limit 10 # what it does"; NULL: none */
    const cli_option *options;
    size_t option_count;
    size_t args_bytes; /* of the struct the options fill; 0 without options */
    uint32_t operands_min, operands_max;
    int (*run)(const cli_context *context, const void *args); /* an exit code */
};

/* The table, in the order of the help; NULL behind the last. */
extern const cli_command *const cli_commands[];
extern const cli_option cli_global_options[];
extern const size_t cli_global_option_count;

/* SIGINT sets a flag; long commands look at it, stop cleanly and return CLI_INTERRUPTED. Catch it first. */
void cli_catch_interrupt(void);
bool cli_interrupted(void);

/* -------------------------------------------------------------------- output */

typedef enum cli_unit {
    CLI_UNIT_NONE,    /* a plain number */
    CLI_UNIT_BYTES,   /* 4.0 MiB; -p: 4194304 */
    CLI_UNIT_SECONDS, /* 12.3 ms; -p: 0.0123 */
    CLI_UNIT_RATE,    /* bytes per second: 1.25 GB/s */
    CLI_UNIT_PERCENT, /* a ratio 0..1: 93.8 % */
    CLI_UNIT_RATIO    /* 1.525 */
} cli_unit;

typedef struct cli_column {
    const char *key;   /* name in JSON and CSV: snake_case, the unit in the name */
    const char *title; /* heading of the table */
    cli_unit unit;
    bool wide; /* not in a plain table */
} cli_column;

/*
 * One answer: named fields and tables of rows, in the order they are added. JSON gets one object with "schema" first;
 * jsonl, csv and tsv get the rows of the first table, or the fields when there is none. Fields have a label for people;
 * NULL: only machines see it. Memory failures and write errors are kept and told by close.
 */
typedef struct cli_report cli_report;
cli_report *cli_report_open(const cli_context *context, const char *schema); /* never NULL */
int cli_report_close(cli_report *report);                                    /* CLI_OK or CLI_FAILURE, told */
void cli_report_text(cli_report *report, const char *key, const char *label, const char *value);
void cli_report_u64(cli_report *report, const char *key, const char *label, cli_unit unit, uint64_t value);
void cli_report_real(cli_report *report, const char *key, const char *label, cli_unit unit, double value);
/* Words separated by '+': an array in JSON; "" has none. */
void cli_report_words(cli_report *report, const char *key, const char *label, const char *words);
void cli_report_bool(cli_report *report, const char *key, const char *label, bool value);
/* Rows: begin, then for each row one call per column, then end. Cells may be cli_row_none. */
void cli_report_rows(cli_report *report, const char *key, const char *title, const cli_column *columns, size_t count);
void cli_row_text(cli_report *report, const char *value);
void cli_row_words(cli_report *report, const char *words);
void cli_row_u64(cli_report *report, uint64_t value);
void cli_row_real(cli_report *report, double value);
void cli_row_bool(cli_report *report, bool value);
void cli_row_none(cli_report *report);
void cli_report_rows_end(cli_report *report);

/* "1.50 GiB", "12.3 ms", ...; exact: the bare number. text holds at least CLI_NUMBER_BYTES. */
enum { CLI_NUMBER_BYTES = 40 };
void cli_format_number(char *text, cli_unit unit, double value, bool exact);
void cli_format_bytes(char *text, uint64_t bytes, bool exact);

#endif
