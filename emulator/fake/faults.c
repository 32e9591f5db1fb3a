#include "faults.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    long first, last; // which of them go wrong, counted from 1; first 0: none
} range;

static const char *const names[FAULT_EVENTS] = {"device", "library",  "pipeline",       "queue",
                                                "buffer", "no-copy",  "command-buffer", "encoder",
                                                "commit", "dispatch", "skip",           "corrupt"};

static const fault_settings sound = {
    .text = "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
    .code = 2,
    .status = 5,
    .max_threads = 1024,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fault_settings settings;
static range ranges[FAULT_EVENTS];
static long counts[FAULT_EVENTS];

static void refuse(const char *name, const char *value) {
    fprintf(stderr, "fake Metal: no such fault: %s=%s\n", name, value);
    abort();
}

// parse_range reads "all", "3", "3-" or "3-5".
static range parse_range(const char *name, const char *value) {
    range r = {1, LONG_MAX};
    if (!*value || !strcmp(value, "all"))
        return r;
    char *end;
    r.first = strtol(value, &end, 10);
    if (!*end)
        r.last = r.first;
    else if (*end == '-' && end[1])
        r.last = strtol(end + 1, &end, 10);
    else if (*end == '-')
        end++;
    if (*end || r.first < 0 || r.last < r.first)
        refuse(name, value);
    return r;
}

static void set(const char *name, const char *value) {
    for (int i = 0; i < FAULT_EVENTS; i++)
        if (!strcmp(name, names[i])) {
            ranges[i] = parse_range(name, value);
            return;
        }
    if (!strcmp(name, "text"))
        snprintf(settings.text, sizeof settings.text, "%s", value);
    else if (!strcmp(name, "code"))
        settings.code = atol(value);
    else if (!strcmp(name, "status"))
        settings.status = atol(value);
    else if (!strcmp(name, "no-error"))
        settings.no_error = 1;
    else if (!strcmp(name, "late"))
        settings.late = 1;
    else if (!strcmp(name, "sticky"))
        settings.sticky = 1;
    else if (!strcmp(name, "old-os"))
        settings.old_os = 1;
    else if (!strcmp(name, "no-copy-empty"))
        settings.no_copy_empty = 1;
    else if (!strcmp(name, "max-threads"))
        settings.max_threads = atol(value);
    else if (!strcmp(name, "delay"))
        settings.delay = atol(value);
    else if (!strcmp(name, "hold"))
        settings.hold = 1;
    else if (strcmp(name, "victim") ||
             sscanf(value, "%u,%u,%u", &settings.victim[0], &settings.victim[1], &settings.victim[2]) != 3)
        refuse(name, value);
}

void fake_metal_inject(const char *spec) {
    char *copy = strdup(spec), *rest = copy, *item;
    pthread_mutex_lock(&lock);
    settings = sound;
    memset(ranges, 0, sizeof ranges);
    memset(counts, 0, sizeof counts);
    while ((item = strsep(&rest, ";"))) {
        char *value = item, *name = strsep(&value, "=");
        if (*name)
            set(name, value ? value : "");
    }
    pthread_mutex_unlock(&lock);
    free(copy);
}

__attribute__((constructor)) static void from_environment(void) {
    const char *spec = getenv("FAKE_METAL");
    fake_metal_inject(spec ? spec : "");
}

int fault_now(fault f) {
    pthread_mutex_lock(&lock);
    long n = ++counts[f];
    int now = ranges[f].first && n >= ranges[f].first && n <= ranges[f].last;
    pthread_mutex_unlock(&lock);
    return now;
}

fault_settings fault_get(void) {
    pthread_mutex_lock(&lock);
    fault_settings s = settings;
    pthread_mutex_unlock(&lock);
    return s;
}

long fake_metal_count(const char *name) {
    for (int i = 0; i < FAULT_EVENTS; i++)
        if (!strcmp(name, names[i])) {
            pthread_mutex_lock(&lock);
            long n = counts[i];
            pthread_mutex_unlock(&lock);
            return n;
        }
    refuse("count", name);
    return 0;
}
