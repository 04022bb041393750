/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of `kvtier doctor` share: a finding is a row of its report.
 */
#ifndef KVT_TOOLS_DOCTOR_H
#define KVT_TOOLS_DOCTOR_H

#include "tools/cli_commands.h"

typedef enum kvt_finding { KVT_FINDING_GOOD, KVT_FINDING_NOTE, KVT_FINDING_BAD } kvt_finding;

typedef struct kvt_doctor {
    const cli_context *context;
    cli_report *report;
    uint32_t bad;
} kvt_doctor;

/* Add a row; the remedy is shown unless the finding is good. */
void kvt_doctor_find(kvt_doctor *doctor, const char *check, kvt_finding finding, const char *remedy, const char *format,
                     ...) __attribute__((format(printf, 5, 6)));

/* doctor_disk.c: the store named and its file system; the one of the current directory when none is named. */
void kvt_doctor_check_disk(kvt_doctor *doctor);

#endif
