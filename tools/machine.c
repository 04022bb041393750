/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads what the kernel says about the machine. Unknown parts stay "unknown"; nothing here can fail a measurement.
 */
#include "tools/machine.h"

#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Value of the first line of /proc/cpuinfo that starts with "model name". */
static void read_cpu_name(char *name, size_t bytes)
{
    snprintf(name, bytes, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL)
        return;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(name, bytes, "%s", colon + strspn(colon, ": \t"));
        break;
    }
    fclose(file);
}

void kvt_machine_get(kvt_machine *out)
{
    char name[96];
    struct utsname system;
    read_cpu_name(name, sizeof name);
    double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    snprintf(out->cpu, sizeof out->cpu, "%ld x %s, %.1f GiB", sysconf(_SC_NPROCESSORS_ONLN), name, memory / 0x1p30);
    if (uname(&system) == 0)
        snprintf(out->kernel, sizeof out->kernel, "%.40s %.80s", system.sysname, system.release);
    else
        snprintf(out->kernel, sizeof out->kernel, "unknown");
}
