/* SPDX-License-Identifier: Apache-2.0
 *
 * Reports: the same facts as a table for people, or as JSON, JSON lines, CSV and TSV for machines. People get rounded
 * numbers with units, machines bare ones. Tables are held until they end, since the widths depend on every row; the
 * other formats stream. Texts come from stores and files, so control bytes never reach a terminal.
 */
#include "tools/cli.h"
#include "tools/cli_json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

typedef enum cell_kind { CELL_NONE, CELL_TEXT, CELL_WORDS, CELL_U64, CELL_REAL, CELL_BOOL } cell_kind;

typedef struct cell {
    const char *key;   /* of a field */
    const char *label; /* of a field; NULL: for machines only */
    char *text;        /* owned */
    uint64_t number;
    double real;
    cell_kind kind;
    cli_unit unit;
} cell;

struct cli_report {
    const cli_context *context;
    cli_json json;
    cell *fields; /* not written yet */
    size_t field_count, field_capacity;
    const cli_column *columns; /* of the open table; NULL: none is open */
    size_t column_count;
    cell *cells; /* of the open table */
    size_t cell_count, cell_capacity;
    uint32_t tables; /* begun so far */
    bool lines;      /* something was written to the table format: the next table is set off by an empty line */
    bool failed;
};

static cli_report broken_report = {.failed =
                                       true}; /* stands in when memory is short: takes everything, writes nothing */

static cli_format format_of(const cli_report *report) { return (cli_format)report->context->global.format; }
static bool is_table(const cli_report *report) { return format_of(report) <= CLI_FORMAT_WIDE; }

static bool use_color(const cli_report *report)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    if (report->context->global.color != 0)
        return report->context->global.color == 1;
    return (no_color == NULL || *no_color == '\0') && term != NULL && strcmp(term, "dumb") != 0 &&
           isatty(fileno(report->context->out));
}

static bool grow(cell **cells, size_t count, size_t *capacity)
{
    if (count < *capacity)
        return true;
    size_t more = *capacity == 0 ? 64 : 2 * *capacity;
    cell *bigger = kvt_alloc_array(more, sizeof *bigger);
    if (bigger == NULL)
        return false;
    if (count != 0)
        memcpy(bigger, *cells, count * sizeof *bigger);
    kvt_free(*cells);
    *cells = bigger;
    *capacity = more;
    return true;
}

static void free_cells(cell *cells, size_t count)
{
    for (size_t i = 0; i < count; i++)
        kvt_free(cells[i].text);
}

/* -------------------------------------------------------------- single cells */

/* Text of a cell: its own, or written into `room`. */
static const char *cell_text(const cell *c, bool exact, char room[CLI_NUMBER_BYTES])
{
    switch (c->kind) {
    case CELL_TEXT:
        return c->text;
    case CELL_WORDS:
        return *c->text != '\0' ? c->text : "none";
    case CELL_BOOL:
        return exact ? (c->number ? "true" : "false") : (c->number ? "yes" : "no");
    case CELL_U64:
        if (exact || c->unit == CLI_UNIT_NONE)
            snprintf(room, CLI_NUMBER_BYTES, "%" PRIu64, c->number);
        else if (c->unit == CLI_UNIT_BYTES)
            cli_format_bytes(room, c->number, false);
        else
            cli_format_number(room, c->unit, (double)c->number, false);
        return room;
    case CELL_REAL:
        cli_format_number(room, c->unit, c->real, exact);
        return room;
    default:
        return exact ? "" : "-";
    }
}

static void words_json(cli_json *json, const char *key, const char *words)
{
    char word[CLI_NUMBER_BYTES];
    cli_json_begin(json, key, '[');
    while (*words != '\0') {
        size_t length = strcspn(words, "+");
        snprintf(word, sizeof word, "%.*s", (int)length, words);
        cli_json_text(json, NULL, word);
        words += length + (words[length] == '+');
    }
    cli_json_end(json, ']');
}

static void cell_json(cli_json *json, const char *key, const cell *c)
{
    if (c->kind == CELL_WORDS)
        words_json(json, key, c->text);
    else if (c->kind == CELL_U64)
        cli_json_u64(json, key, c->number);
    else if (c->kind == CELL_REAL)
        cli_json_real(json, key, c->real);
    else if (c->kind == CELL_BOOL)
        cli_json_bool(json, key, c->number != 0);
    else
        cli_json_text(json, key, c->text); /* NULL for none */
}

/* One CSV or TSV value: RFC 4180 quotes, or backslash escapes. */
static void cell_separated(const cli_report *report, const char *text)
{
    FILE *out = report->context->out;
    if (format_of(report) == CLI_FORMAT_TSV) {
        for (; *text != '\0'; text++) {
            if (*text == '\t' || *text == '\n' || *text == '\r' || *text == '\\')
                fprintf(out, "\\%c", *text == '\t' ? 't' : *text == '\n' ? 'n' : *text == '\r' ? 'r' : '\\');
            else
                fputc(*text, out);
        }
    } else if (text[strcspn(text, ",\"\r\n")] != '\0') {
        fputc('"', out);
        for (; *text != '\0'; text++)
            fprintf(out, *text == '"' ? "\"\"" : "%c", *text);
        fputc('"', out);
    } else {
        fputs(text, out);
    }
}

/* Control bytes of a text shown to people become '?', so that stored names cannot drive the terminal. */
static void put_clean(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, out);
}

static size_t width_of(const char *text) /* code points: close enough to columns */
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void put_padded(FILE *out, const char *text, size_t width, bool right, bool last)
{
    int padding = (int)(width - kvt_min_u64(width, width_of(text)));
    if (right)
        fprintf(out, "%*s", padding, "");
    put_clean(out, text);
    if (!right && !last)
        fprintf(out, "%*s", padding, "");
}

/* -------------------------------------------------------------------- fields */

static void flush_fields(cli_report *report)
{
    FILE *out = report->context->out;
    bool exact = report->context->global.exact;
    size_t width = 0;
    char room[CLI_NUMBER_BYTES];
    for (size_t i = 0; i < report->field_count; i++)
        if (report->fields[i].label != NULL)
            width = kvt_max_u64(width, width_of(report->fields[i].label));
    if (report->lines && width != 0) /* something is shown */
        fputc('\n', out);
    for (size_t i = 0; i < report->field_count; i++) {
        const cell *field = &report->fields[i];
        if (field->label == NULL)
            continue;
        put_padded(out, field->label, width + 2, false, false);
        put_clean(out, cell_text(field, exact, room));
        fputc('\n', out);
        report->lines = true;
    }
    free_cells(report->fields, report->field_count);
    report->field_count = 0;
}

/* Fields in a format of rows, for a report that has no table. */
static void flush_fields_as_rows(cli_report *report)
{
    FILE *out = report->context->out;
    char room[CLI_NUMBER_BYTES];
    if (format_of(report) == CLI_FORMAT_JSONL) {
        cli_json json = {.out = out};
        cli_json_begin(&json, NULL, '{');
        for (size_t i = 0; i < report->field_count; i++)
            cell_json(&json, report->fields[i].key, &report->fields[i]);
        cli_json_end(&json, '}');
        fputc('\n', out);
        return;
    }
    char separator = format_of(report) == CLI_FORMAT_CSV ? ',' : '\t';
    if (!report->context->global.no_header)
        fprintf(out, "name%cvalue\n", separator);
    for (size_t i = 0; i < report->field_count; i++) {
        cell_separated(report, report->fields[i].key);
        fputc(separator, out);
        cell_separated(report, cell_text(&report->fields[i], true, room));
        fputc('\n', out);
    }
}

static void add_field(cli_report *report, cell field, const char *text)
{
    if (report->failed)
        return;
    assert(report->columns == NULL);
    if (format_of(report) == CLI_FORMAT_JSON) {
        if (field.kind == CELL_TEXT)
            cli_json_text(&report->json, field.key, text);
        else if (field.kind == CELL_WORDS)
            words_json(&report->json, field.key, text);
        else
            cell_json(&report->json, field.key, &field);
        return;
    }
    field.text = kvt_strdup(text);
    if ((text != NULL && field.text == NULL) || !grow(&report->fields, report->field_count, &report->field_capacity)) {
        kvt_free(field.text);
        report->failed = true;
        return;
    }
    if (field.kind == CELL_TEXT && text == NULL)
        field.kind = CELL_NONE;
    report->fields[report->field_count++] = field;
}

void cli_report_text(cli_report *report, const char *key, const char *label, const char *value)
{
    add_field(report, (cell){.key = key, .label = label, .kind = CELL_TEXT}, value);
}

void cli_report_words(cli_report *report, const char *key, const char *label, const char *words)
{
    add_field(report, (cell){.key = key, .label = label, .kind = CELL_WORDS}, words);
}

void cli_report_u64(cli_report *report, const char *key, const char *label, cli_unit unit, uint64_t value)
{
    add_field(report, (cell){.key = key, .label = label, .kind = CELL_U64, .unit = unit, .number = value}, NULL);
}

void cli_report_real(cli_report *report, const char *key, const char *label, cli_unit unit, double value)
{
    add_field(report, (cell){.key = key, .label = label, .kind = CELL_REAL, .unit = unit, .real = value}, NULL);
}

void cli_report_bool(cli_report *report, const char *key, const char *label, bool value)
{
    add_field(report, (cell){.key = key, .label = label, .kind = CELL_BOOL, .number = value}, NULL);
}

/* ---------------------------------------------------------------------- rows */

static bool shown(const cli_report *report, size_t column)
{
    return format_of(report) != CLI_FORMAT_TABLE || !report->columns[column].wide;
}

/* Only the first table reaches the formats that can hold one table. */
static bool streams(const cli_report *report)
{
    return format_of(report) == CLI_FORMAT_JSON || (!is_table(report) && report->tables == 1);
}

static void write_header(const cli_report *report)
{
    char separator = format_of(report) == CLI_FORMAT_CSV ? ',' : '\t';
    for (size_t i = 0; i < report->column_count; i++) {
        if (i != 0)
            fputc(separator, report->context->out);
        cell_separated(report, report->columns[i].key);
    }
    fputc('\n', report->context->out);
}

void cli_report_rows(cli_report *report, const char *key, const char *title, const cli_column *columns, size_t count)
{
    if (report->failed)
        return;
    assert(report->columns == NULL && count != 0);
    report->columns = columns;
    report->column_count = count;
    report->tables++;
    if (format_of(report) == CLI_FORMAT_JSON)
        cli_json_begin(&report->json, key, '[');
    else if (is_table(report)) {
        flush_fields(report);
        if (report->lines)
            fputc('\n', report->context->out);
        if (title != NULL)
            fprintf(report->context->out, "%s\n", title);
    } else if (streams(report) && format_of(report) != CLI_FORMAT_JSONL && !report->context->global.no_header)
        write_header(report);
}

/* A whole row is there: write it in a streaming format. */
static void stream_row(cli_report *report)
{
    char room[CLI_NUMBER_BYTES];
    FILE *out = report->context->out;
    cli_json line = {.out = out};
    if (format_of(report) == CLI_FORMAT_JSON || format_of(report) == CLI_FORMAT_JSONL) {
        cli_json *json = format_of(report) == CLI_FORMAT_JSON ? &report->json : &line;
        cli_json_begin(json, NULL, '{');
        for (size_t i = 0; i < report->column_count; i++)
            cell_json(json, report->columns[i].key, &report->cells[i]);
        cli_json_end(json, '}');
        if (json == &line)
            fputc('\n', out);
        return;
    }
    for (size_t i = 0; i < report->column_count; i++) {
        if (i != 0)
            fputc(format_of(report) == CLI_FORMAT_CSV ? ',' : '\t', out);
        cell_separated(report, cell_text(&report->cells[i], true, room));
    }
    fputc('\n', out);
}

static void add_cell(cli_report *report, cell c, const char *text)
{
    if (report->failed)
        return;
    assert(report->columns != NULL);
    if (!grow(&report->cells, report->cell_count, &report->cell_capacity) ||
        (text != NULL && (c.text = kvt_strdup(text)) == NULL)) {
        report->failed = true;
        return;
    }
    if (c.kind == CELL_TEXT && text == NULL)
        c.kind = CELL_NONE;
    c.unit = report->columns[report->cell_count % report->column_count].unit;
    report->cells[report->cell_count++] = c;
    if (is_table(report) || report->cell_count < report->column_count)
        return;
    if (streams(report))
        stream_row(report);
    free_cells(report->cells, report->cell_count);
    report->cell_count = 0;
}

void cli_row_text(cli_report *report, const char *value) { add_cell(report, (cell){.kind = CELL_TEXT}, value); }
void cli_row_words(cli_report *report, const char *words) { add_cell(report, (cell){.kind = CELL_WORDS}, words); }
void cli_row_u64(cli_report *report, uint64_t value)
{
    add_cell(report, (cell){.kind = CELL_U64, .number = value}, NULL);
}
void cli_row_real(cli_report *report, double value)
{
    add_cell(report, (cell){.kind = CELL_REAL, .real = value}, NULL);
}
void cli_row_bool(cli_report *report, bool value)
{
    add_cell(report, (cell){.kind = CELL_BOOL, .number = value}, NULL);
}
void cli_row_none(cli_report *report) { add_cell(report, (cell){.kind = CELL_NONE}, NULL); }

typedef struct column_shape {
    size_t width;
    bool right; /* numbers */
} column_shape;

static void measure(const cli_report *report, column_shape *shapes)
{
    char room[CLI_NUMBER_BYTES];
    bool exact = report->context->global.exact, header = !report->context->global.no_header;
    for (size_t i = 0; i < report->column_count; i++)
        shapes[i] =
            (column_shape){header ? width_of(report->columns[i].title) : 0, report->columns[i].unit != CLI_UNIT_NONE};
    for (size_t i = 0; i < report->cell_count; i++) {
        const cell *c = &report->cells[i];
        column_shape *shape = &shapes[i % report->column_count];
        size_t width = width_of(c->kind == CELL_NONE ? "-" : cell_text(c, exact, room));
        shape->width = kvt_max_u64(shape->width, width);
        shape->right |= c->kind == CELL_U64 || c->kind == CELL_REAL;
    }
}

/* cells NULL: the heading. */
static void print_line(const cli_report *report, const cell *cells, const column_shape *shapes)
{
    FILE *out = report->context->out;
    char room[CLI_NUMBER_BYTES];
    size_t last = report->column_count - 1;
    while (last > 0 && !shown(report, last))
        last--;
    for (size_t i = 0; i <= last; i++) {
        if (!shown(report, i))
            continue;
        const char *text = cells == NULL                ? report->columns[i].title
                           : cells[i].kind == CELL_NONE ? "-"
                                                        : cell_text(&cells[i], report->context->global.exact, room);
        put_padded(out, text, shapes[i].width, shapes[i].right, i == last);
        fputs(i == last ? "\n" : "  ", out);
    }
}

static void print_table(cli_report *report)
{
    column_shape *shapes = kvt_alloc_array(report->column_count, sizeof *shapes);
    if (shapes == NULL) {
        report->failed = true;
        return;
    }
    measure(report, shapes);
    if (!report->context->global.no_header) {
        bool color = use_color(report);
        fputs(color ? "\033[1m" : "", report->context->out);
        print_line(report, NULL, shapes);
        fputs(color ? "\033[0m" : "", report->context->out);
    }
    for (size_t i = 0; i + report->column_count <= report->cell_count; i += report->column_count)
        print_line(report, &report->cells[i], shapes);
    report->lines = true;
    kvt_free(shapes);
}

void cli_report_rows_end(cli_report *report)
{
    if (report->failed)
        return;
    assert(report->columns != NULL && report->cell_count % report->column_count == 0);
    if (format_of(report) == CLI_FORMAT_JSON)
        cli_json_end(&report->json, ']');
    else if (is_table(report))
        print_table(report);
    free_cells(report->cells, report->cell_count);
    report->cell_count = 0;
    report->columns = NULL;
}

/* -------------------------------------------------------------- open and close */

cli_report *cli_report_open(const cli_context *context, const char *schema)
{
    cli_report *report = kvt_alloc(sizeof *report);
    if (report == NULL)
        return &broken_report;
    report->context = context;
    report->json = (cli_json){.out = context->out, .indent = true};
    if (format_of(report) == CLI_FORMAT_JSON) {
        cli_json_begin(&report->json, NULL, '{');
        cli_json_text(&report->json, "schema", schema);
    }
    return report;
}

int cli_report_close(cli_report *report)
{
    bool failed = report->failed;
    if (report == &broken_report)
        return cli_fail(CLI_FAILURE, "answer", "out of memory; ask for less, e.g. with --limit");
    FILE *out = report->context->out;
    if (!failed && is_table(report))
        flush_fields(report);
    else if (!failed && format_of(report) == CLI_FORMAT_JSON)
        cli_json_end(&report->json, '}'), fputc('\n', out);
    else if (!failed && report->tables == 0)
        flush_fields_as_rows(report);
    free_cells(report->fields, report->field_count);
    free_cells(report->cells, report->cell_count);
    kvt_free(report->fields);
    kvt_free(report->cells);
    kvt_free(report);
    if (failed)
        return cli_fail(CLI_FAILURE, "answer", "out of memory; ask for less, e.g. with --limit");
    if (fflush(out) != 0 || ferror(out))
        return cli_fail(CLI_FAILURE, "standard output", "cannot be written; the answer is incomplete");
    return CLI_OK;
}
