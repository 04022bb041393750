/* SPDX-License-Identifier: Apache-2.0
 *
 * RocksDB as the rocks tier uses it: an index column family, and one column family per generation of values. The only
 * file that knows the C API is rocks_db.c. Private to this room.
 *
 * Threads: get, row_get and the byte counts from any thread; everything else from one thread at a time. Who holds a
 * generation's handle closes or drops it before the database is closed.
 */
#ifndef KVT_ROCKS_DB_H
#define KVT_ROCKS_DB_H

#include "tiers/rocks_format.h"

typedef struct kvt_rocks_db kvt_rocks_db;
typedef struct kvt_rocks_cf kvt_rocks_cf; /* a generation's column family */

typedef struct kvt_rocks_db_config {
    const char *directory;
    uint64_t write_buffer_bytes; /* memory of unflushed writes, roughly */
    bool read_only;
    kvt_log log;
} kvt_rocks_db_config;

typedef struct kvt_rocks_found {
    uint32_t number;
    kvt_rocks_cf *cf;
} kvt_rocks_found;

typedef struct kvt_rocks_value {
    const uint8_t *bytes;
    size_t size;
    void *slice;
} kvt_rocks_value;

/*
 * Open or create. found[] receives the generations that exist, ascending, at most KVT_ROCKS_GENERATIONS_MAX + 2.
 * KVT_BUSY, KVT_IO, KVT_NOSPACE, KVT_CORRUPT, KVT_NOMEM; KVT_EXISTS: a database that is not ours.
 */
kvt_status kvt_rocks_db_open(const kvt_rocks_db_config *config, kvt_rocks_found *found, uint32_t *out_count,
                             kvt_rocks_db **out);
void kvt_rocks_db_close(kvt_rocks_db *db);
const char *kvt_rocks_db_detail(const kvt_rocks_db *db);

/* The root record. KVT_MISS: a new database; KVT_EXISTS: none, but the database holds something. */
kvt_status kvt_rocks_db_root_get(kvt_rocks_db *db, uint8_t *out, size_t capacity, size_t *out_size);
kvt_status kvt_rocks_db_root_put(kvt_rocks_db *db, const uint8_t root[KVT_ROCKS_ROOT_BYTES]); /* durable */

kvt_status kvt_rocks_db_generation_add(kvt_rocks_db *db, uint32_t number, kvt_rocks_cf **out);
kvt_status kvt_rocks_db_generation_drop(kvt_rocks_db *db,
                                        kvt_rocks_cf *cf); /* its files go; cf is closed, also on failure */
void kvt_rocks_db_generation_close(kvt_rocks_cf *cf);
uint64_t kvt_rocks_db_generation_bytes(kvt_rocks_db *db, kvt_rocks_cf *cf); /* in files */
/* Of this generation (NULL: none) and of the index: written, but in memory still. */
uint64_t kvt_rocks_db_unflushed_bytes(kvt_rocks_db *db, kvt_rocks_cf *cf);

/* Value and row in one atomic write. */
kvt_status kvt_rocks_db_put(kvt_rocks_db *db, kvt_rocks_cf *cf, const uint8_t *value, size_t size,
                            const kvt_rocks_row *row);
/* KVT_OK: release the value afterwards; KVT_MISS; KVT_IO; KVT_CORRUPT. */
kvt_status kvt_rocks_db_get(kvt_rocks_db *db, kvt_rocks_cf *cf, const uint8_t key[KVT_ROCKS_KEY_BYTES],
                            kvt_rocks_value *out);
void kvt_rocks_db_value_release(kvt_rocks_value *value);

/* Rows: read one; delete by key (collected until commit); walk all, `visit` may delete. */
kvt_status kvt_rocks_db_row_get(kvt_rocks_db *db, const uint8_t key[KVT_ROCKS_KEY_BYTES], kvt_rocks_row *out);
void kvt_rocks_db_row_delete(kvt_rocks_db *db, const void *key, size_t size);
kvt_status kvt_rocks_db_commit(kvt_rocks_db *db);
typedef kvt_status (*kvt_rocks_visit_fn)(void *arg, const void *key, size_t key_size, const void *row, size_t row_size);
kvt_status kvt_rocks_db_rows_visit(kvt_rocks_db *db, kvt_rocks_visit_fn visit, void *arg);

/* Write memory down: one generation's values; the index. Blocks. Values first, so that no row lacks its value. */
kvt_status kvt_rocks_db_flush(kvt_rocks_db *db, kvt_rocks_cf *cf);
kvt_status kvt_rocks_db_flush_index(kvt_rocks_db *db);

#endif
