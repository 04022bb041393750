/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands that the table in kvtier.c lists, and what those that open a store share (cli_store.c).
 */
#ifndef KVT_TOOLS_CLI_COMMANDS_H
#define KVT_TOOLS_CLI_COMMANDS_H

#include "tools/cli.h"
#include "tools/read_safetensors.h"
#include "tools/read_tokens.h"

extern const cli_command cli_command_status, cli_command_ls, cli_command_show, cli_command_ns; /* cmd_look.c */
extern const cli_command cli_command_match;                                                    /* cmd_ask.c */
extern const cli_command cli_command_get, cli_command_put;                                     /* cmd_change.c */
extern const cli_command cli_command_rm;                                                       /* cmd_remove.c */
extern const cli_command cli_command_warm;                                                     /* cmd_warm.c */
extern const cli_command cli_command_verify;                                                   /* cmd_care.c */
extern const cli_command cli_command_doctor;                                                   /* cmd_doctor.c */
extern const cli_command cli_command_simulate;                                                 /* cmd_simulate.c */
extern const cli_command cli_command_demo, cli_command_replay, cli_command_bench;              /* cmd_<name>.c */

/* ---- opening a store ---- */

/* Sizes of a store that a command may create; the options are CLI_STORE_OPTIONS(args struct, field). */
typedef struct cli_store_args {
    uint64_t host_bytes, disk_bytes, segment_bytes;
    uint64_t blob_bytes; /* the largest that will be stored, for a store that has to be made; 0: not known */
    uint32_t tier;       /* 0 what is there, else file; 1 file; 2 rocks */
    uint32_t io;         /* kvt_io_kind */
    bool reset_corrupt;
} cli_store_args;

#define CLI_STORE_OPTIONS(type, field)                                                                                 \
    {.name = "host-bytes",                                                                                             \
     .kind = CLI_SIZE,                                                                                                 \
     .value = "SIZE",                                                                                                  \
     .min = 1 << 20,                                                                                                   \
     .max = 0x1p46,                                                                                                    \
     .offset = offsetof(type, field.host_bytes),                                                                       \
     .text = "Pinned memory to use; default 256M"},                                                                    \
        {.name = "disk-bytes",                                                                                         \
         .kind = CLI_SIZE,                                                                                             \
         .value = "SIZE",                                                                                              \
         .min = 4 << 20,                                                                                               \
         .max = 0x1p50,                                                                                                \
         .offset = offsetof(type, field.disk_bytes),                                                                   \
         .text = "Size of a new store, preallocated; default 4G. One that is there keeps its own"},                    \
        {.name = "segment-bytes",                                                                                      \
         .kind = CLI_SIZE,                                                                                             \
         .value = "SIZE",                                                                                              \
         .min = 1 << 20,                                                                                               \
         .max = 1 << 30,                                                                                               \
         .offset = offsetof(type, field.segment_bytes),                                                                \
         .text = "Segments of a new file tier, a power of two; default by its size. A record must fit into one"},      \
        {.name = "tier",                                                                                               \
         .kind = CLI_CHOICE,                                                                                           \
         .value = "auto|file|rocks",                                                                                   \
         .offset = offsetof(type, field.tier),                                                                         \
         .text = "Tier below RAM of a new store; default auto: what is there, else file"},                             \
        {.name = "reset-corrupt",                                                                                      \
         .kind = CLI_FLAG,                                                                                             \
         .offset = offsetof(type, field.reset_corrupt),                                                                \
         .text = "A store whose root is unreadable is set aside and made anew; every record is forgotten"},            \
    {                                                                                                                  \
        .name = "io", .kind = CLI_CHOICE, .value = "auto|uring|pool", .offset = offsetof(type, field.io),              \
        .text = "I/O of the file tier: io_uring or threads; default auto"                                              \
    }

/* Open the store of -s for looking only; nothing on disk changes. host_bytes: pinned memory it may need. Tells what is
 * wrong (no store named, none there, in use by process N) and returns an exit code; CLI_OK with *out. */
int cli_store_look(const cli_context *context, uint64_t host_bytes, kvt_engine **out);
/* Open it for changes, with KVT_OPEN_* flags; created unless KVT_OPEN_NO_CREATE. */
int cli_store_change(const cli_context *context, const cli_store_args *args, uint32_t flags, kvt_engine **out);

/* An engine without a store, for questions that need none. */
int cli_store_none(const cli_context *context, kvt_engine **out);
/* Could this space be opened in some store? Told about `thing` if not, before a store is made; and how large its blobs
 * are, 0 for opaque ones. */
int cli_store_check_space(const cli_context *context, const kvt_space_options *options, const char *thing,
                          uint64_t *out_blob_bytes);

/* Wait for a ticket; CLI_OK when it has completed, whatever its status. Ends early on SIGINT (cancels it). */
int cli_store_wait(const cli_context *context, kvt_engine *engine, kvt_ticket ticket, kvt_completion *out);

/* The record of the store, or of one space (not NULL), whose key starts with `text` (4 to 32 hex digits). CLI_OK,
 * CLI_NOT_FOUND, CLI_USAGE (no hex, ambiguous), all told. */
int cli_store_find(kvt_engine *engine, kvt_space *space, const char *text, kvt_record_info *out);

/* Is `text` the beginning of a key's 32 digits? Upper-case digits are taken too. */
bool cli_key_starts_with(const kvt_key *key, const char *text);
/* Digits that can name `what` ("a key"); else told, CLI_USAGE. */
int cli_check_digits(const char *text, const char *what);

/* Which space a command means: all that is given must fit. */
typedef struct cli_space_args {
    const char *space; /* id or its first digits */
    const char *model, *revision, *salt, *rank;
} cli_space_args;
/* salt_env: KVTIER_SALT where one space has to be chosen anyway, NULL where none named means all of them. */
#define CLI_SPACE_OPTIONS(type, field, salt_env)                                                                       \
    {.name = "space",                                                                                                  \
     .kind = CLI_TEXT,                                                                                                 \
     .value = "ID",                                                                                                    \
     .offset = offsetof(type, field.space),                                                                            \
     .text = "The space, by its id or its first digits; needed when the store has several"},                           \
        {.name = "model",                                                                                              \
         .kind = CLI_TEXT,                                                                                             \
         .value = "NAME",                                                                                              \
         .offset = offsetof(type, field.model),                                                                        \
         .text = "The space of this model, where that is unambiguous"},                                                \
        {.name = "revision",                                                                                           \
         .kind = CLI_TEXT,                                                                                             \
         .value = "TEXT",                                                                                              \
         .offset = offsetof(type, field.revision),                                                                     \
         .text = "The space of this revision, likewise"},                                                              \
        {.name = "rank",                                                                                               \
         .kind = CLI_TEXT,                                                                                             \
         .value = "N",                                                                                                 \
         .offset = offsetof(type, field.rank),                                                                         \
         .text = "The space of this tensor-parallel rank, likewise"},                                                  \
    {                                                                                                                  \
        .name = "salt", .kind = CLI_TEXT, .value = "TEXT", .env = salt_env, .offset = offsetof(type, field.salt),      \
        .text = "The space of the tenant with this salt, likewise"                                                     \
    }
/* The one space that fits; the only one when nothing is said. All failures are told. Close it with kvt_space_close. */
int cli_store_space(kvt_engine *engine, const cli_space_args *args, kvt_space **out);
/* The same, or NULL when nothing is said: all spaces are meant. */
int cli_store_space_if_named(kvt_engine *engine, const cli_space_args *args, kvt_space **out);
bool cli_space_named(const cli_space_args *args);
/* All ids, in memory of kvt_alloc; NULL when there is none. */
int cli_store_spaces(kvt_engine *engine, kvt_key **out, size_t *out_count);
/* A value of a space's text ("model", ...): up to `bytes` with its NUL into `value`; false: not there. */
bool cli_space_field(const char *text, const char *name, char *value, size_t bytes);
/* Rank and number of ranks of a space's text. */
bool cli_space_rank(const char *text, uint64_t *out_rank, uint64_t *out_count);

/* No tier is off or met errors. (Writes are off whenever a store is looked at, which is no fault.) */
bool cli_store_healthy(const kvt_stats *stats);

/* Prompts of a file of token ids: JSON lines, .npy, "-" (standard input), or the tensor `tokens` of a .safetensors
 * file. Failures are told: CLI_FAILURE (cannot be read), CLI_USAGE (breaks its format). */
int cli_prompts_load(const char *path, kvt_prompts *out);
/* The prompt in the tensor `tokens` of a file; CLI_NOT_FOUND, untold, when there is no such tensor. */
int cli_prompts_of_tensors(const kvt_safetensors *file, const char *path, kvt_prompts *out);
/* Exit code of a reader's failure, told with the file's name. */
int cli_fail_input(kvt_status status, const char *path);

/* ---- traces ---- */

/* Sizes of the two tiers that a trace is played or simulated on: a size, or a percentage of the trace's unique bytes;
 * NULL: the default, which is at least what a store can work with. Failures are told. */
int cli_trace_sizes(const char *host, const char *disk, uint64_t unique_bytes, uint64_t *out_host, uint64_t *out_disk);
#define CLI_TRACE_HOST_DEFAULT "1%, at least 64M"
#define CLI_TRACE_DISK_DEFAULT "5%, at least 256M"
#define CLI_GEOMETRY_FORMAT                                                                                            \
    "A geometry file is one JSON object: {\"name\": \"my-model\", \"layers\": 32, \"planes\": 2, \"heads\": 8, "       \
    "\"head_dim\": 128, \"dtype\": \"bf16\"}. planes is 2 for K and V (the default) or 1 for latent attention; dtype " \
    "is "                                                                                                              \
    "bf16 (the default), fp16, fp32, fp8 or int8. A path is told from a name by a '.' or '/' in it."

/* "host+file" of a tier mask, "" of none: for cli_row_words(). text holds at least CLI_NUMBER_BYTES. */
void cli_tiers_text(uint32_t tiers, char *text);
const char *cli_codec_name(uint32_t codec);

#endif
