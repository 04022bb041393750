/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's threads: they run jobs, urgent ones first. The queue is a list through the jobs, so it never allocates;
 * its bound is the bound of what is queued (units and writers come from fixed pools).
 */
#include "engine/engine_int.h"

enum { WORKERS_MAX = 64 };

typedef struct job_list {
    kvt_job *head, *tail;
} job_list;

typedef struct worker {
    struct kvt_workers *workers;
    pthread_t thread;
    uint8_t *scratch;
} worker;

struct kvt_workers {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    job_list urgent, ordinary;
    bool stopping;
    uint32_t count; /* threads that run */
    worker list[WORKERS_MAX];
};

static void append(job_list *list, kvt_job *job)
{
    job->next = NULL;
    if (list->head == NULL)
        list->head = job;
    else
        list->tail->next = job;
    list->tail = job;
}

static kvt_job *take_first(job_list *list)
{
    kvt_job *job = list->head;
    if (job != NULL)
        list->head = job->next;
    return job;
}

static kvt_job *next_job(kvt_workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    kvt_job *job;
    for (;;) {
        job = take_first(&workers->urgent);
        if (job == NULL)
            job = take_first(&workers->ordinary);
        if (job != NULL || workers->stopping)
            break;
        pthread_cond_wait(&workers->wake, &workers->lock);
    }
    pthread_mutex_unlock(&workers->lock);
    return job;
}

static void *worker_run(void *arg)
{
    worker *self = arg;
    pthread_setname_np(pthread_self(), "kvtier-work");
    for (kvt_job *job = next_job(self->workers); job != NULL; job = next_job(self->workers))
        job->run(job, self->scratch);
    return NULL;
}

kvt_status kvt_workers_create(uint32_t thread_count, kvt_workers **out)
{
    kvt_workers *workers = kvt_alloc(sizeof *workers);
    if (workers == NULL)
        return KVT_NOMEM;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->wake, NULL);
    for (uint32_t i = 0; i < thread_count && i < WORKERS_MAX; i++) {
        worker *self = &workers->list[i];
        kvt_page_kind kind;
        self->workers = workers;
        self->scratch = kvt_pages_map(KVT_BLOB_BYTES_MAX, &kind);
        if (self->scratch == NULL || pthread_create(&self->thread, NULL, worker_run, self) != 0) {
            kvt_pages_unmap(self->scratch, KVT_BLOB_BYTES_MAX);
            kvt_workers_destroy(workers);
            return kvt_fail(KVT_NOMEM, "worker thread %u of %u cannot be started", i + 1, thread_count);
        }
        workers->count++;
    }
    *out = workers;
    return KVT_OK;
}

void kvt_workers_destroy(kvt_workers *workers)
{
    if (workers == NULL)
        return;
    pthread_mutex_lock(&workers->lock);
    workers->stopping = true;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    for (uint32_t i = 0; i < workers->count; i++) {
        pthread_join(workers->list[i].thread, NULL);
        kvt_pages_unmap(workers->list[i].scratch, KVT_BLOB_BYTES_MAX);
    }
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->wake);
    kvt_free(workers);
}

void kvt_workers_push(kvt_workers *workers, kvt_job *job, bool urgent)
{
    pthread_mutex_lock(&workers->lock);
    append(urgent ? &workers->urgent : &workers->ordinary, job);
    pthread_cond_signal(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
}
