/* SPDX-License-Identifier: Apache-2.0
 *
 * The CUDA backend: whether it can run here, and its life. The runtime is linked statically and looks for the driver
 * when it is first called, so the same library starts on a host without one, where this file answers KVT_UNSUPPORTED.
 */
#include "kernels/cuda_int.h"

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

extern const kvt_backend_ops kvt_backend_cuda;

/* As measured on H100 and H200: docs/gpu_backend.md, "Tuning". */
enum { CAPABILITY_MIN = 80, DIRECT_BLOCKS_OUT = 2, DIRECT_BLOCKS_IN = 4, DIRECT_BLOCKS_SHORT = 8 };
#define DIRECT_BYTES_MAX (UINT64_C(2) << 20)

/* ------------------------------------------------------------- can it run */

static bool reads(const char *path, const char *wanted)
{
    char text[16] = "";
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    bool same = fgets(text, sizeof text, file) != NULL && strncmp(text, wanted, strlen(wanted)) == 0;
    fclose(file);
    return same;
}

/* A display or 3D controller of NVIDIA's on the bus. */
static bool on_the_bus(void)
{
    const char *devices = "/sys/bus/pci/devices";
    DIR *dir = opendir(devices);
    bool found = false;
    for (struct dirent *entry; dir != NULL && !found && (entry = readdir(dir)) != NULL;) {
        char vendor[320], class[320];
        snprintf(vendor, sizeof vendor, "%s/%s/vendor", devices, entry->d_name);
        snprintf(class, sizeof class, "%s/%s/class", devices, entry->d_name);
        found = reads(vendor, "0x10de") && reads(class, "0x03");
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

static bool cuda_absent(void) { return access("/dev/nvidiactl", F_OK) != 0 && !on_the_bus(); }

static bool current_device(int *device, struct cudaDeviceProp *properties, char *why, size_t why_bytes)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count != 0)
        error = cudaGetDevice(device);
    if (error == cudaSuccess && count != 0)
        error = cudaGetDeviceProperties(properties, *device);
    if (error == cudaSuccess && count != 0)
        return true;
    cudaGetLastError();
    if (cuda_absent())
        snprintf(why, why_bytes, "no NVIDIA GPU on this host");
    else
        snprintf(why, why_bytes, "a GPU is there, but CUDA says: %s",
                 error == cudaSuccess ? "no device" : cudaGetErrorString(error));
    return false;
}

static uint32_t cuda_score(char *why, size_t why_bytes)
{
    int device;
    struct cudaDeviceProp properties;
    if (!current_device(&device, &properties, why, why_bytes))
        return 0;
    int capability = properties.major * 10 + properties.minor;
    if (capability < CAPABILITY_MIN) {
        snprintf(why, why_bytes, "%.60s has compute capability %d.%d; 8.0 is the least", properties.name,
                 properties.major, properties.minor);
        return 0;
    }
    if (!properties.canUseHostPointerForRegisteredMem) {
        snprintf(why, why_bytes, "%.60s cannot use host addresses of registered memory", properties.name);
        return 0;
    }
    return 100;
}

/* -------------------------------------------------------------- how it spreads */

/* Loads under way have to cover the memory's round trip. Up to some 30 GB/s per multiprocessor (an H100 has 25) one
 * load a thread in blocks of 256 does, and other forms cost half a percent to two; beyond (an H200 has 37) it loses a
 * tenth, and two loads a thread in small blocks do. */
static kvt_cuda_grid device_grid(int device, int multiprocessors)
{
    const double much = 30e9;
    int khz = 0, bits = 0;
    if (cudaDeviceGetAttribute(&khz, cudaDevAttrMemoryClockRate, device) != cudaSuccess ||
        cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, device) != cudaSuccess)
        cudaGetLastError();
    double bytes_per_second = 2.0 * khz * 1000 * bits / 8; /* both edges of the clock */
    if (bytes_per_second > 0 && bytes_per_second / multiprocessors < much)
        return (kvt_cuda_grid){256, 1, 0};
    return (kvt_cuda_grid){64, 2, 0};
}

/* ------------------------------------------------------------------- its life */

static void cuda_close(void *context)
{
    kvt_cuda *cuda = context;
    cudaSetDevice(cuda->device);
    for (int d = 0; d < 2; d++)
        for (uint32_t p = 0; p < KVT_CUDA_PIPES; p++)
            kvt_cuda_pipe_destroy(cuda->pipes[d][p]);
    kvt_cuda_fences_destroy(cuda);
    while (cuda->range_count != 0)
        kvt_cuda_host_unregister(cuda, cuda->ranges[0].owner);
    cudaGetLastError();
    pthread_mutex_destroy(&cuda->fence_lock);
    pthread_rwlock_destroy(&cuda->range_lock);
    kvt_free(cuda);
}

static kvt_status open_parts(kvt_cuda *cuda)
{
    struct cudaDeviceProp properties;
    char why[160] = "";
    if (!current_device(&cuda->device, &properties, why, sizeof why))
        return kvt_fail(KVT_UNSUPPORTED, "backend cuda cannot be used here: %s", why);
    snprintf(cuda->name, sizeof cuda->name, "%.63s", properties.name);
    cuda->multiprocessors = properties.multiProcessorCount;
    cuda->capability = properties.major * 10 + properties.minor;
    KVT_CUDA_TRY(cudaSetDevice(cuda->device));
    cuda->knobs.device = device_grid(cuda->device, cuda->multiprocessors);
    for (int d = 0; d < 2; d++)
        for (uint32_t p = 0; p < KVT_CUDA_PIPES; p++)
            KVT_TRY(kvt_cuda_pipe_create(d == KVT_SCATTER, &cuda->pipes[d][p]));
    return kvt_cuda_calibrate(cuda);
}

static kvt_status cuda_open(const kvt_log *log, void **out)
{
    kvt_cuda *cuda = kvt_alloc(sizeof *cuda);
    if (cuda == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a CUDA context");
    cuda->log = *log;
    cuda->register_bytes = KVT_CUDA_REGISTER_BYTES;
    cuda->knobs = (kvt_cuda_knobs){.staged = {64, 2, 0},
                                   .direct_blocks = {DIRECT_BLOCKS_OUT, DIRECT_BLOCKS_IN},
                                   .direct_blocks_short = DIRECT_BLOCKS_SHORT,
                                   .piece_bytes = KVT_CUDA_SLOT_BYTES,
                                   .direct_max = DIRECT_BYTES_MAX};
    pthread_mutex_init(&cuda->fence_lock, NULL);
    pthread_rwlock_init(&cuda->range_lock, NULL);
    kvt_status status = open_parts(cuda);
    if (status != KVT_OK) {
        cuda_close(cuda);
        return status;
    }
    kvt_log_write(log, KVT_LOG_INFO, "CUDA: %s, %d multiprocessors, calibrated in %.0f ms", cuda->name,
                  cuda->multiprocessors, (double)cuda->calibration.elapsed_ns / 1e6);
    *out = cuda;
    return KVT_OK;
}

static void cuda_describe(void *context, char text[KVT_BACKEND_DEVICE_TEXT])
{
    const kvt_cuda *cuda = context;
    snprintf(text, KVT_BACKEND_DEVICE_TEXT, "%.48s, sm_%d, %d multiprocessors", cuda->name, cuda->capability,
             cuda->multiprocessors);
}

static kvt_status cuda_tune(void *context, const kvt_backend_tuning *tuning)
{
    kvt_cuda *cuda = context;
    cuda->knobs.transport = tuning->transport;
    cuda->knobs.quota = tuning->multiprocessors_max;
    return KVT_OK;
}

static void cuda_calibration(void *context, char *text, size_t bytes)
{
    kvt_cuda_calibration_text(context, text, bytes);
}

const kvt_backend_ops kvt_backend_cuda = {
    .name = "cuda",
    .version = KVT_BACKEND_VERSION,
    .caps = KVT_BACKEND_ASYNC | KVT_BACKEND_DEVICE | KVT_BACKEND_PINS,
    .score = cuda_score,
    .open = cuda_open,
    .close = cuda_close,
    .describe = cuda_describe,
    .move = kvt_cuda_move,
    .fence_wait = kvt_cuda_fence_wait,
    .host_register = kvt_cuda_host_register,
    .host_unregister = kvt_cuda_host_unregister,
    .pages_alloc = kvt_cuda_pages_alloc,
    .pages_free = kvt_cuda_pages_free,
    .pages_copy = kvt_cuda_pages_copy,
    .fence_order = kvt_cuda_fence_order,
    .tune = cuda_tune,
    .calibration = cuda_calibration,
    .scatter_rope = kvt_cuda_scatter_rope,
    .absent = cuda_absent,
};
