/* SPDX-License-Identifier: Apache-2.0
 *
 * fio, run as a child: the yardstick of disk benches.
 */
#ifndef KVT_FIO_H
#define KVT_FIO_H

#include "engine/base/base.h"

typedef struct kvt_fio_job {
    const char *file; /* exists, `bytes` long */
    uint64_t bytes;
    uint64_t block_bytes;
    uint64_t depth;
    uint64_t run_ns;
    bool write;       /* in order; else random reads */
    bool small_pages; /* buffers in 4 KiB pages, where the host has no huge ones */
} kvt_fio_job;

/* Is it installed? Its version into `text`. */
bool kvt_fio_version(char *text, size_t bytes);
/* The command line, for reports. */
void kvt_fio_command(const kvt_fio_job *job, char *text, size_t bytes);
/* Bytes per second. KVT_IO with what fio said. */
kvt_status kvt_fio_run(const kvt_fio_job *job, double *out_rate);
/* Does the host hold enough reserved huge pages for the buffers of such a job? */
bool kvt_fio_huge_pages(const kvt_fio_job *job);

#endif
