/* SPDX-License-Identifier: Apache-2.0
 *
 * What a replay found, as a table or JSON.
 */
#ifndef KVT_REPLAY_REPORT_H
#define KVT_REPLAY_REPORT_H

#include "tools/cli.h"
#include "tools/replay.h"

/* CLI_OK or CLI_FAILURE (the answer could not be written). */
int kvt_replay_report(const cli_context *context, const char *trace_path, const kvt_trace *trace,
                      const kvt_replay_options *options, const kvt_replay_result *result);

/* Bytes per second; 0 when nothing was measured. */
double kvt_replay_rate(const kvt_replay_stage *stage);

#endif
