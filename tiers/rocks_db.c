/* SPDX-License-Identifier: Apache-2.0
 *
 * The one file that includes RocksDB's C API. Options follow one idea: values are written once, in large pieces, and
 * leave by dropping their column family, so nothing is compacted but the small index. RocksDB throws and asserts
 * inside; neither can be caught here, which is why this tier lives in a module of its own and is named as an exception
 * in the docs.
 */
#include "tiers/rocks_db.h"

#include <inttypes.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    FOUND_MAX = KVT_ROCKS_GENERATIONS_MAX + 2,
    NAMES_MAX = FOUND_MAX + 2, /* default and index */
    NAME_BYTES = 16,
    PATH_BYTES_MAX = 4096,
    TEXT_BYTES_MAX = 200,
    BLOB_BYTES_MIN = 4096,
    DELETES_PER_BATCH = 1024,
    NEVER = 1 << 30, /* triggers that must not fire */
    /* One above the highest: LOG stays empty. Its writer asserts when it goes on after an error, so that with a log a
     * full disk would end the process; and what matters is told by the calls themselves. */
    LOG_LEVEL_NOTHING = 6
};
static const uint64_t BLOB_FILE_BYTES = UINT64_C(256) << 20;
static const uint64_t BLOCK_CACHE_BYTES = UINT64_C(8) << 20;
static const char INDEX_NAME[] = "idx";
static const char ROOT_KEY[] = "kvtier";

struct kvt_rocks_db {
    rocksdb_t *db;
    rocksdb_options_t *options; /* of the database and the default column family */
    rocksdb_options_t *index_options;
    rocksdb_options_t *generation_options;
    rocksdb_block_based_table_options_t *table_options;
    rocksdb_cache_t *cache;
    rocksdb_column_family_handle_t *root, *index;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read_value, *read_row;
    rocksdb_writebatch_t *batch;
    bool read_only;
    bool direct;
};

/* A kvt_rocks_cf is RocksDB's handle under our name. */
static rocksdb_column_family_handle_t *handle_of(kvt_rocks_cf *cf)
{
    return (rocksdb_column_family_handle_t *)(void *)cf;
}
static kvt_rocks_cf *cf_of(rocksdb_column_family_handle_t *handle) { return (kvt_rocks_cf *)(void *)handle; }

/* ---- errors ---- */

static bool says(const char *text, const char *part) { return strstr(text, part) != NULL; }

static kvt_status classify(const char *text)
{
    if (says(text, "No space left") || says(text, "Disk quota"))
        return KVT_NOSPACE;
    if (strncmp(text, "Corruption", 10) == 0 || says(text, "No such file"))
        return KVT_CORRUPT; /* a file that the database names is missing */
    if (says(text, "lock hold by") || says(text, "While lock file") || strncmp(text, "Result incomplete", 17) == 0)
        return KVT_BUSY;
    return KVT_IO;
}

/* Status of a C API call, whose text is freed. */
static kvt_status settle(char *error, const char *what)
{
    if (error == NULL)
        return KVT_OK;
    kvt_status status = kvt_fail(classify(error), "RocksDB: %s: %.*s", what, TEXT_BYTES_MAX, error);
    rocksdb_free(error);
    return status;
}

/* ---- options ---- */

static rocksdb_options_t *options_new(const kvt_rocks_db *db)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_block_based_table_factory(o, db->table_options);
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    rocksdb_options_set_paranoid_checks(o, 1);
    return o;
}

static void set_database_options(rocksdb_options_t *o, const kvt_rocks_db_config *config, bool direct)
{
    rocksdb_options_set_create_if_missing(o, !config->read_only);
    rocksdb_options_set_atomic_flush(o, 1);
    rocksdb_options_set_max_open_files(o, 512);
    rocksdb_options_set_db_write_buffer_size(o, config->write_buffer_bytes * 2);
    rocksdb_options_set_use_direct_reads(o, direct);
    rocksdb_options_set_use_direct_io_for_flush_and_compaction(o, direct);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_info_log_level(o, LOG_LEVEL_NOTHING);
    rocksdb_options_set_keep_log_file_num(o, 1);
    rocksdb_options_set_max_manifest_file_size(o, 1 << 20);
    rocksdb_options_set_manifest_preallocation_size(o, 64 << 10);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);
    rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
}

static void set_generation_options(rocksdb_options_t *o, const kvt_rocks_db_config *config)
{
    rocksdb_options_set_write_buffer_size(o, config->write_buffer_bytes);
    rocksdb_options_set_max_write_buffer_number(o, 2);
    rocksdb_options_set_enable_blob_files(o, 1);
    rocksdb_options_set_min_blob_size(o, BLOB_BYTES_MIN);
    rocksdb_options_set_blob_file_size(o, BLOB_FILE_BYTES);
    rocksdb_options_set_blob_compression_type(o, rocksdb_no_compression);
    rocksdb_options_set_enable_blob_gc(o, 0);
    rocksdb_options_set_disable_auto_compactions(o, 1);
    rocksdb_options_set_level0_slowdown_writes_trigger(o, NEVER);
    rocksdb_options_set_level0_stop_writes_trigger(o, NEVER);
    rocksdb_options_set_soft_pending_compaction_bytes_limit(o, 0);
    rocksdb_options_set_hard_pending_compaction_bytes_limit(o, 0);
}

static void make_options(kvt_rocks_db *db, const kvt_rocks_db_config *config, bool direct)
{
    db->direct = direct;
    db->cache = rocksdb_cache_create_lru(BLOCK_CACHE_BYTES);
    db->table_options = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(db->table_options, db->cache);
    rocksdb_block_based_options_set_filter_policy(db->table_options, rocksdb_filterpolicy_create_bloom_full(10));
    db->options = options_new(db);
    set_database_options(db->options, config, direct);
    db->index_options = options_new(db);
    rocksdb_options_set_write_buffer_size(db->index_options, kvt_min_u64(config->write_buffer_bytes, 16 << 20));
    db->generation_options = options_new(db);
    set_generation_options(db->generation_options, config);
    db->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(db->write, 1);
    db->read_value = rocksdb_readoptions_create(); /* values are checked by hash, by whoever asked */
    rocksdb_readoptions_set_verify_checksums(db->read_value, 0);
    rocksdb_readoptions_set_fill_cache(db->read_value, 0);
    db->read_row = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(db->read_row, 1);
    db->batch = rocksdb_writebatch_create();
}

static void destroy_options(kvt_rocks_db *db)
{
    if (db->options == NULL)
        return;
    rocksdb_writebatch_destroy(db->batch);
    rocksdb_readoptions_destroy(db->read_row);
    rocksdb_readoptions_destroy(db->read_value);
    rocksdb_writeoptions_destroy(db->write);
    rocksdb_options_destroy(db->generation_options);
    rocksdb_options_destroy(db->index_options);
    rocksdb_options_destroy(db->options);
    rocksdb_block_based_options_destroy(db->table_options);
    rocksdb_cache_destroy(db->cache);
    db->options = NULL;
}

/* ---- open, close ---- */

/* Column families of the database on disk, by name. */
typedef struct family_names {
    char names[NAMES_MAX][NAME_BYTES];
    uint32_t numbers[NAMES_MAX]; /* of generations, else 0 */
    uint32_t count;
    bool has_index;
} family_names;

/* Number of a generation's name "g<decimal>"; 0: no such name. */
static uint32_t number_of(const char *name)
{
    char *end;
    if (name[0] != 'g' || name[1] < '1' || name[1] > '9')
        return 0;
    unsigned long long number = strtoull(name + 1, &end, 10);
    return *end == '\0' && number <= UINT32_MAX ? (uint32_t)number : 0;
}

static bool names_add(family_names *names, const char *name)
{
    uint32_t number = number_of(name);
    bool index = strcmp(name, INDEX_NAME) == 0, known = index || number != 0 || strcmp(name, "default") == 0;
    if (!known || names->count == NAMES_MAX)
        return false;
    names->has_index = names->has_index || index;
    names->numbers[names->count] = number;
    snprintf(names->names[names->count++], NAME_BYTES, "%s", name);
    return true;
}

static kvt_status names_list(const kvt_rocks_db *db, const char *directory, family_names *names)
{
    char path[PATH_BYTES_MAX];
    memset(names, 0, sizeof *names);
    snprintf(path, sizeof path, "%s/CURRENT", directory);
    if (access(path, F_OK) != 0)
        return names_add(names, "default") ? KVT_OK : KVT_CORRUPT;
    char *error = NULL;
    size_t count = 0;
    char **list = rocksdb_list_column_families(db->options, directory, &count, &error);
    kvt_status status = settle(error, "list of column families");
    bool ours = true;
    for (size_t i = 0; status == KVT_OK && i < count && ours; i++)
        ours = names_add(names, list[i]);
    if (list != NULL) /* also, empty, beside an error */
        rocksdb_list_column_families_destroy(list, count);
    KVT_TRY(status);
    return ours ? KVT_OK
                : kvt_fail(KVT_EXISTS,
                           "%s holds a RocksDB database that is not kvtier's; choose another store directory",
                           directory);
}

static kvt_status open_families(kvt_rocks_db *db, const char *directory, const family_names *names,
                                rocksdb_column_family_handle_t **handles)
{
    const char *list[NAMES_MAX];
    const rocksdb_options_t *options[NAMES_MAX];
    for (uint32_t i = 0; i < names->count; i++) {
        list[i] = names->names[i];
        options[i] = names->numbers[i] != 0 ? db->generation_options : db->index_options;
    }
    char *error = NULL;
    int count = (int)names->count;
    db->db = db->read_only
                 ? rocksdb_open_for_read_only_column_families(db->options, directory, count, list, options, handles, 0,
                                                              &error)
                 : rocksdb_open_column_families(db->options, directory, count, list, options, handles, &error);
    return settle(error, "open");
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = ((const kvt_rocks_found *)a)->number, y = ((const kvt_rocks_found *)b)->number;
    return x < y ? -1 : x > y;
}

static void sort_out(kvt_rocks_db *db, const family_names *names, rocksdb_column_family_handle_t **handles,
                     kvt_rocks_found *found, uint32_t *out_count)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < names->count; i++) {
        if (names->numbers[i] != 0)
            found[count++] = (kvt_rocks_found){names->numbers[i], cf_of(handles[i])};
        else if (strcmp(names->names[i], INDEX_NAME) == 0)
            db->index = handles[i];
        else
            db->root = handles[i];
    }
    qsort(found, count, sizeof *found, by_number);
    *out_count = count;
}

static kvt_status try_open(kvt_rocks_db *db, const kvt_rocks_db_config *config, bool direct, kvt_rocks_found *found,
                           uint32_t *out_count)
{
    family_names names;
    rocksdb_column_family_handle_t *handles[NAMES_MAX] = {NULL};
    make_options(db, config, direct);
    kvt_status status = names_list(db, config->directory, &names);
    if (status == KVT_OK)
        status = open_families(db, config->directory, &names, handles);
    if (status == KVT_OK)
        sort_out(db, &names, handles, found, out_count);
    else
        destroy_options(db);
    return status;
}

/* A database without an index is new, or its creation was interrupted; or it is somebody else's. */
static kvt_status make_index(kvt_rocks_db *db, uint32_t found_count)
{
    if (found_count != 0 || db->read_only)
        return kvt_fail(KVT_CORRUPT, "RocksDB: the index column family is missing");
    uint8_t root[KVT_ROCKS_ROOT_BYTES];
    size_t size;
    kvt_status status = kvt_rocks_db_root_get(db, root, sizeof root, &size);
    if (status != KVT_MISS)
        return status != KVT_OK ? status : kvt_fail(KVT_CORRUPT, "RocksDB: the index column family is missing");
    char *error = NULL;
    db->index = rocksdb_create_column_family(db->db, db->index_options, INDEX_NAME, &error);
    return settle(error, "creation of the index");
}

kvt_status kvt_rocks_db_open(const kvt_rocks_db_config *config, kvt_rocks_found *found, uint32_t *out_count,
                             kvt_rocks_db **out)
{
    kvt_rocks_db *db = kvt_alloc(sizeof *db);
    if (db == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the RocksDB tier");
    db->read_only = config->read_only;
    *out_count = 0;
    kvt_status status = try_open(db, config, true, found, out_count);
    if (status == KVT_IO && (says(kvt_last_error(), "Direct I/O") || says(kvt_last_error(), "Invalid argument"))) {
        status = try_open(db, config, false, found, out_count);
        if (status == KVT_OK)
            kvt_log_write(&config->log, KVT_LOG_WARN, "RocksDB: no direct I/O here, reads and writes are buffered");
    }
    if (status == KVT_OK && db->index == NULL)
        status = make_index(db, *out_count);
    if (status != KVT_OK) {
        for (uint32_t i = 0; i < *out_count; i++)
            kvt_rocks_db_generation_close(found[i].cf);
        kvt_rocks_db_close(db);
        return status;
    }
    *out = db;
    return KVT_OK;
}

void kvt_rocks_db_close(kvt_rocks_db *db)
{
    if (db == NULL)
        return;
    if (db->index != NULL)
        rocksdb_column_family_handle_destroy(db->index);
    if (db->root != NULL)
        rocksdb_column_family_handle_destroy(db->root);
    if (db->db != NULL)
        rocksdb_close(db->db);
    destroy_options(db);
    kvt_free(db);
}

const char *kvt_rocks_db_detail(const kvt_rocks_db *db)
{
    return db->direct ? "RocksDB, direct, no WAL" : "RocksDB, buffered, no WAL";
}

/* ---- root ---- */

static bool family_is_empty(kvt_rocks_db *db, rocksdb_column_family_handle_t *family)
{
    rocksdb_iterator_t *walk = rocksdb_create_iterator_cf(db->db, db->read_row, family);
    rocksdb_iter_seek_to_first(walk);
    bool empty = rocksdb_iter_valid(walk) == 0;
    rocksdb_iter_destroy(walk);
    return empty;
}

kvt_status kvt_rocks_db_root_get(kvt_rocks_db *db, uint8_t *out, size_t capacity, size_t *out_size)
{
    char *error = NULL;
    size_t size = 0;
    char *root = rocksdb_get_cf(db->db, db->read_row, db->root, ROOT_KEY, sizeof ROOT_KEY - 1, &size, &error);
    KVT_TRY(settle(error, "read of the root record"));
    if (root == NULL)
        return family_is_empty(db, db->root) ? KVT_MISS
                                             : kvt_fail(KVT_EXISTS, "the RocksDB database there is not kvtier's; "
                                                                    "choose another store directory");
    *out_size = kvt_min_u64(size, capacity);
    memcpy(out, root, *out_size);
    rocksdb_free(root);
    return KVT_OK;
}

kvt_status kvt_rocks_db_root_put(kvt_rocks_db *db, const uint8_t root[KVT_ROCKS_ROOT_BYTES])
{
    char *error = NULL;
    rocksdb_writeoptions_t *durable = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(durable, 1);
    rocksdb_put_cf(db->db, durable, db->root, ROOT_KEY, sizeof ROOT_KEY - 1, (const char *)root, KVT_ROCKS_ROOT_BYTES,
                   &error);
    rocksdb_writeoptions_destroy(durable);
    KVT_TRY(settle(error, "write of the root record"));
    return kvt_rocks_db_flush(db, cf_of(db->root));
}

/* ---- generations ---- */

kvt_status kvt_rocks_db_generation_add(kvt_rocks_db *db, uint32_t number, kvt_rocks_cf **out)
{
    char name[NAME_BYTES], *error = NULL;
    snprintf(name, sizeof name, "g%" PRIu32, number);
    rocksdb_column_family_handle_t *handle = rocksdb_create_column_family(db->db, db->generation_options, name, &error);
    KVT_TRY(settle(error, "creation of a generation"));
    *out = cf_of(handle);
    return KVT_OK;
}

kvt_status kvt_rocks_db_generation_drop(kvt_rocks_db *db, kvt_rocks_cf *cf)
{
    char *error = NULL;
    rocksdb_drop_column_family(db->db, handle_of(cf), &error);
    rocksdb_column_family_handle_destroy(handle_of(cf));
    return settle(error, "drop of a generation");
}

void kvt_rocks_db_generation_close(kvt_rocks_cf *cf) { rocksdb_column_family_handle_destroy(handle_of(cf)); }

uint64_t kvt_rocks_db_generation_bytes(kvt_rocks_db *db, kvt_rocks_cf *cf)
{
    uint64_t blobs = 0, tables = 0;
    (void)rocksdb_property_int_cf(db->db, handle_of(cf), "rocksdb.total-blob-file-size", &blobs);
    (void)rocksdb_property_int_cf(db->db, handle_of(cf), "rocksdb.total-sst-files-size", &tables);
    return blobs + tables;
}

uint64_t kvt_rocks_db_unflushed_bytes(kvt_rocks_db *db, kvt_rocks_cf *cf)
{
    static const char property[] = "rocksdb.cur-size-all-mem-tables";
    uint64_t values = 0, rows = 0;
    if (cf != NULL)
        (void)rocksdb_property_int_cf(db->db, handle_of(cf), property, &values);
    (void)rocksdb_property_int_cf(db->db, db->index, property, &rows);
    return values + rows;
}

/* ---- values and rows ---- */

kvt_status kvt_rocks_db_put(kvt_rocks_db *db, kvt_rocks_cf *cf, const uint8_t *value, size_t size,
                            const kvt_rocks_row *row)
{
    uint8_t key[KVT_ROCKS_KEY_BYTES], encoded[KVT_ROCKS_ROW_BYTES];
    kvt_rocks_key_encode(&row->record, key);
    kvt_rocks_row_encode(row, encoded);
    rocksdb_writebatch_clear(db->batch);
    rocksdb_writebatch_put_cf(db->batch, handle_of(cf), (const char *)key, sizeof key, (const char *)value, size);
    rocksdb_writebatch_put_cf(db->batch, db->index, (const char *)key, sizeof key, (const char *)encoded,
                              sizeof encoded);
    return kvt_rocks_db_commit(db);
}

kvt_status kvt_rocks_db_commit(kvt_rocks_db *db)
{
    char *error = NULL;
    if (rocksdb_writebatch_count(db->batch) != 0)
        rocksdb_write(db->db, db->write, db->batch, &error);
    rocksdb_writebatch_clear(db->batch);
    return settle(error, "write");
}

/* Walk to the place of a key and stop right before it: the blocks on the way are checked and stay in the cache as long
 * as the iterator lives, and no value is read. */
static rocksdb_iterator_t *check_way(kvt_rocks_db *db, kvt_rocks_cf *cf, const uint8_t key[KVT_ROCKS_KEY_BYTES],
                                     rocksdb_readoptions_t *bounded, char **error)
{
    rocksdb_readoptions_set_verify_checksums(bounded, 1);
    rocksdb_readoptions_set_iterate_upper_bound(bounded, (const char *)key, KVT_ROCKS_KEY_BYTES);
    rocksdb_iterator_t *walk = rocksdb_create_iterator_cf(db->db, bounded, handle_of(cf));
    rocksdb_iter_seek(walk, (const char *)key, KVT_ROCKS_KEY_BYTES);
    rocksdb_iter_get_error(walk, error);
    return walk;
}

/* A damaged block of a table would meet asserts in RocksDB, so the way to a value is checked before it is gone. The
 * value is not: whoever asked knows its hash, and RocksDB's own checksum halves the speed. */
kvt_status kvt_rocks_db_get(kvt_rocks_db *db, kvt_rocks_cf *cf, const uint8_t key[KVT_ROCKS_KEY_BYTES],
                            kvt_rocks_value *out)
{
    char *error = NULL;
    rocksdb_readoptions_t *bounded = rocksdb_readoptions_create();
    rocksdb_iterator_t *walk = check_way(db, cf, key, bounded, &error);
    rocksdb_pinnableslice_t *slice = NULL;
    if (error == NULL)
        slice = rocksdb_get_pinned_cf(db->db, db->read_value, handle_of(cf), (const char *)key, KVT_ROCKS_KEY_BYTES,
                                      &error);
    rocksdb_iter_destroy(walk);
    rocksdb_readoptions_destroy(bounded);
    KVT_TRY(settle(error, "read"));
    if (slice == NULL)
        return KVT_MISS;
    out->slice = slice;
    out->bytes = (const uint8_t *)rocksdb_pinnableslice_value(slice, &out->size);
    return KVT_OK;
}

void kvt_rocks_db_value_release(kvt_rocks_value *value) { rocksdb_pinnableslice_destroy(value->slice); }

kvt_status kvt_rocks_db_row_get(kvt_rocks_db *db, const uint8_t key[KVT_ROCKS_KEY_BYTES], kvt_rocks_row *out)
{
    char *error = NULL;
    size_t size = 0;
    char *row = rocksdb_get_cf(db->db, db->read_row, db->index, (const char *)key, KVT_ROCKS_KEY_BYTES, &size, &error);
    KVT_TRY(settle(error, "read of the index"));
    kvt_status status = row != NULL ? kvt_rocks_row_decode(key, KVT_ROCKS_KEY_BYTES, row, size, out) : KVT_MISS;
    rocksdb_free(row);
    return status;
}

void kvt_rocks_db_row_delete(kvt_rocks_db *db, const void *key, size_t size)
{
    rocksdb_writebatch_delete_cf(db->batch, db->index, key, size);
}

kvt_status kvt_rocks_db_rows_visit(kvt_rocks_db *db, kvt_rocks_visit_fn visit, void *arg)
{
    rocksdb_iterator_t *walk = rocksdb_create_iterator_cf(db->db, db->read_row, db->index);
    kvt_status status = KVT_OK;
    for (rocksdb_iter_seek_to_first(walk); status == KVT_OK && rocksdb_iter_valid(walk) != 0; rocksdb_iter_next(walk)) {
        size_t key_size = 0, row_size = 0;
        const char *key = rocksdb_iter_key(walk, &key_size), *row = rocksdb_iter_value(walk, &row_size);
        status = visit(arg, key, key_size, row, row_size);
        if (status == KVT_OK && !db->read_only && rocksdb_writebatch_count(db->batch) >= DELETES_PER_BATCH)
            status = kvt_rocks_db_commit(db);
    }
    char *error = NULL;
    rocksdb_iter_get_error(walk, &error);
    rocksdb_iter_destroy(walk);
    kvt_status walked = settle(error, "walk of the index");
    return status != KVT_OK ? status : walked;
}

/* ---- flush ---- */

kvt_status kvt_rocks_db_flush(kvt_rocks_db *db, kvt_rocks_cf *cf)
{
    char *error = NULL;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(options, 1);
    rocksdb_flush_cf(db->db, options, handle_of(cf), &error);
    rocksdb_flushoptions_destroy(options);
    return settle(error, "flush");
}

kvt_status kvt_rocks_db_flush_index(kvt_rocks_db *db) { return kvt_rocks_db_flush(db, cf_of(db->index)); }
