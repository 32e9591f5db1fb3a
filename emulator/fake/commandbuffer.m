// MTLCommandQueue and MTLCommandBuffer. Command buffers that share an MTLBuffer run in the order of their commits,
// across queues too (a read counts as a write); others run at once.
#include "objects.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fake_command_free(fake_command *);

// Guards the state of command buffers and queues, and the buffers' last users.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static long workers;

// For probe: returns when no command buffer is at work any more, so that objects can be counted.
void fake_metal_settle(void) {
    pthread_mutex_lock(&lock);
    while (workers)
        pthread_cond_wait(&moved, &lock);
    pthread_mutex_unlock(&lock);
}

@implementation FakeQueue
- (id)commandBuffer {
    if (fault_now(FAULT_COMMAND_BUFFER))
        return nil;
    pthread_mutex_lock(&lock);
    if (unfinished == command_buffers_max)
        fake_metal_die("64 command buffers of a queue are unfinished: Metal would wait here for one of them");
    unfinished++;
    pthread_mutex_unlock(&lock);
    FakeCommandBuffer *c = [FakeCommandBuffer new];
    c->queue = [self retain];
    c->last = &c->first;
    return [c autorelease];
}
@end

static void run(fake_command *c) {
    mslemu_dispatch d = {
        .kernel = c->pipeline->kernel,
        .grid = {c->grid.width, c->grid.height, c->grid.depth},
        .threadgroup = {c->threadgroup.width, c->threadgroup.height, c->threadgroup.depth},
        .flush_subnormals = c->pipeline->fast || fake_metal_all_fast(),
        .corrupt = c->corrupt,
    };
    fault_settings how = fault_get();
    d.victim = (mslemu_size){how.victim[0], how.victim[1], how.victim[2]};
    for (int i = 0; i < MSLEMU_BUFFERS; i++) {
        fake_argument *a = &c->arguments[i];
        d.buffers[i].data = a->buffer ? a->buffer->data + a->offset : a->bytes;
        d.buffers[i].size = a->buffer ? a->buffer->size - a->offset : a->length;
    }
    memcpy(d.threadgroup_memory, c->threadgroupMemory, sizeof d.threadgroup_memory);
    mslemu_run(&d);
}

static void wait_for_earlier(FakeCommandBuffer *b) {
    pthread_mutex_lock(&lock);
    for (long i = 0; i < b->afterCount; i++)
        while (!b->after[i]->done)
            pthread_cond_wait(&moved, &lock);
    pthread_mutex_unlock(&lock);
    for (long i = 0; i < b->afterCount; i++)
        [b->after[i] release];
    b->afterCount = 0;
}

static void finish(FakeCommandBuffer *b, double start) {
    pthread_mutex_lock(&lock);
    double end = fake_metal_now();
    b->start = start;
    b->end = end > start ? end : start + 1e-9;
    b->status = b->failing ? b->how.status : MTLCommandBufferStatusCompleted;
    b->done = YES;
    b->queue->unfinished--;
    for (fake_command *c = b->first; c; c = c->next)
        for (int i = 0; i < MSLEMU_BUFFERS; i++) {
            FakeBuffer *used = c->arguments[i].buffer;
            if (used && used->lastUser == b)
                used->lastUser = nil;
        }
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
}

static void *work(void *v) {
    FakeCommandBuffer *b = v;
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    wait_for_earlier(b);
    double start = fake_metal_now();
    while (fault_get().hold)
        usleep(200);
    usleep(b->how.delay * 1000);
    if (!b->failing || b->how.late)
        for (fake_command *c = b->first; c; c = c->next)
            if (!c->skip)
                run(c);
    if (b->failing && !b->how.no_error)
        b->error = [[NSError errorWithDomain:"MTLCommandBufferErrorDomain" code:b->how.code text:b->how.text] retain];
    finish(b, start);
    [b release];
    [pool drain];
    pthread_mutex_lock(&lock);
    workers--;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void start_worker(FakeCommandBuffer *b) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, old;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all); // the program's signal handlers want its own threads
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGABRT);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&thread, &attributes, work, b))
        fake_metal_die("no thread for a command buffer");
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
}

@implementation FakeCommandBuffer
- (id)computeCommandEncoder {
    if (encoding || committed)
        fake_metal_die("computeCommandEncoder: while another encodes, or after commit");
    if (fault_now(FAULT_ENCODER))
        return nil;
    encoding = YES;
    FakeEncoder *e = [FakeEncoder new];
    e->commandBuffer = [self retain];
    return [e autorelease];
}

// Decides what goes wrong. Now, and not when it runs, so that the order of the commits counts.
- (void)chooseFaults {
    static const char *const ignored = "Ignored (for causing prior/excessive GPU errors) "
                                       "(00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)";
    how = fault_get();
    failing = fault_now(FAULT_COMMIT);
    if (queue->lost && !failing) {
        failing = YES;
        strcpy(how.text, ignored);
        how.code = 4;
    }
    if (failing && how.sticky)
        queue->lost = YES;
    for (fake_command *c = first; c; c = c->next) {
        fault_now(FAULT_DISPATCH);
        c->skip = fault_now(FAULT_SKIP);
        c->corrupt = fault_now(FAULT_CORRUPT);
    }
}

// Hazard tracking: every earlier user of this one's buffers runs before it.
- (void)trackHazards {
    for (fake_command *c = first; c; c = c->next)
        for (int i = 0; i < MSLEMU_BUFFERS; i++) {
            FakeBuffer *used = c->arguments[i].buffer;
            if (!used || used->lastUser == self)
                continue;
            if (used->lastUser) {
                after = realloc(after, (afterCount + 1) * sizeof *after);
                after[afterCount++] = [used->lastUser retain];
            }
            used->lastUser = self;
        }
}

- (void)commit {
    if (encoding)
        fake_metal_die("commit before endEncoding");
    pthread_mutex_lock(&lock);
    if (committed)
        fake_metal_die("a command buffer is committed twice");
    committed = YES;
    status = MTLCommandBufferStatusCommitted;
    workers++;
    [self chooseFaults];
    [self trackHazards];
    pthread_mutex_unlock(&lock);
    [self retain];
    start_worker(self);
}

- (void)waitUntilCompleted {
    pthread_mutex_lock(&lock);
    if (!committed)
        fake_metal_die("waitUntilCompleted before commit");
    while (!done)
        pthread_cond_wait(&moved, &lock);
    pthread_mutex_unlock(&lock);
}

- (BOOL)isDone {
    pthread_mutex_lock(&lock);
    BOOL d = done;
    pthread_mutex_unlock(&lock);
    return d;
}

- (NSUInteger)status {
    pthread_mutex_lock(&lock);
    NSUInteger s = status;
    pthread_mutex_unlock(&lock);
    return s;
}

- (NSError *)error {
    return [self isDone] ? error : nil;
}

- (double)GPUStartTime {
    return [self isDone] ? start : 0;
}

- (double)GPUEndTime {
    return [self isDone] ? end : 0;
}

- (void)dealloc {
    for (fake_command *c = first, *next; c; c = next) {
        next = c->next;
        fake_command_free(c);
    }
    if (!committed) {
        pthread_mutex_lock(&lock);
        queue->unfinished--;
        pthread_mutex_unlock(&lock);
    }
    free(after);
    [queue release];
    [error release];
    [super dealloc];
}
@end
