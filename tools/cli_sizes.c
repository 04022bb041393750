/* SPDX-License-Identifier: Apache-2.0
 *
 * The sizes that a trace is played on, one reading for all commands that take them: what a replay measures must be what
 * a simulation predicts.
 */
#include "tools/cli_commands.h"

enum { HOST_SHARE = 100, DISK_SHARE = 20 };
#define HOST_BYTES_LEAST (UINT64_C(64) << 20)
#define DISK_BYTES_LEAST (UINT64_C(256) << 20)

int cli_trace_sizes(const char *host, const char *disk, uint64_t unique_bytes, uint64_t *out_host, uint64_t *out_disk)
{
    *out_host = kvt_max_u64(unique_bytes / HOST_SHARE, HOST_BYTES_LEAST);
    *out_disk = kvt_max_u64(unique_bytes / DISK_SHARE, DISK_BYTES_LEAST);
    if (host != NULL && !cli_parse_share(host, unique_bytes, out_host))
        return cli_fail(CLI_USAGE, "--host-bytes", "'%s' is no size; write it like 512M or 1%%", host);
    if (disk != NULL && !cli_parse_share(disk, unique_bytes, out_disk))
        return cli_fail(CLI_USAGE, "--disk-bytes", "'%s' is no size; write it like 4G or 5%%", disk);
    return CLI_OK;
}
