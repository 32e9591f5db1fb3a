// For probe: one dispatch, through the methods that a program uses, so that the emulator is tested without the product.
#include "objects.h"
#include <stdlib.h>
#include <string.h>

id MTLCreateSystemDefaultDevice(void);

typedef struct {
    const char *source, *kernel;
    unsigned grid[3], threadgroup[3];     // in threads
    unsigned threadgroup_memory;          // bytes of [[threadgroup(0)]]
    int fast;                             // mathMode
    unsigned buffers;                     // count
    size_t sizes[MSLEMU_BUFFERS];         // of the buffers, which lie behind one another in data
    unsigned dispatches, command_buffers; // how often, one after the other
} fake_try;

static const char *text_of(NSError *e) {
    return e ? [[e localizedDescription] UTF8String] : "nil, without an NSError";
}

static FakePipeline *make_pipeline(FakeDevice *device, const fake_try *t, const char **failure) {
    NSError *error = nil;
    MTLCompileOptions *options = [MTLCompileOptions new];
    [options setFastMathEnabled:t->fast];
    FakeLibrary *library = [device newLibraryWithSource:[NSString stringWithUTF8String:t->source]
                                                options:options
                                                  error:&error];
    [options release];
    if (!library) {
        *failure = text_of(error);
        return nil;
    }
    FakeFunction *function = [library newFunctionWithName:[NSString stringWithUTF8String:t->kernel]];
    [library release];
    if (!function) {
        *failure = "no such kernel";
        return nil;
    }
    FakePipeline *pipeline = [device newComputePipelineStateWithFunction:function error:&error];
    [function release];
    if (!pipeline)
        *failure = text_of(error);
    return pipeline;
}

static FakeCommandBuffer *encode(FakeQueue *queue, FakePipeline *pipeline, const fake_try *t, FakeBuffer **buffers) {
    FakeCommandBuffer *c = [queue commandBuffer];
    FakeEncoder *e = [c computeCommandEncoder];
    [e setComputePipelineState:pipeline];
    for (unsigned i = 0; i < t->buffers; i++)
        [e setBuffer:buffers[i] offset:0 atIndex:i];
    if (t->threadgroup_memory)
        [e setThreadgroupMemoryLength:t->threadgroup_memory atIndex:0];
    MTLSize grid = {t->grid[0], t->grid[1], t->grid[2]};
    MTLSize threadgroup = {t->threadgroup[0], t->threadgroup[1], t->threadgroup[2]};
    for (unsigned i = 0; i < t->dispatches; i++)
        [e dispatchThreads:grid threadsPerThreadgroup:threadgroup];
    [e endEncoding];
    return c;
}

// Runs the command buffers and tells of the last that failed.
static const char *run_all(FakeDevice *device, FakePipeline *pipeline, const fake_try *t, FakeBuffer **buffers) {
    const char *failure = NULL;
    FakeQueue *queue = [[device newCommandQueue] autorelease];
    if (!queue)
        return "no queue";
    for (unsigned i = 0; i < t->command_buffers; i++) {
        FakeCommandBuffer *c = encode(queue, pipeline, t, buffers);
        [c commit];
        [c waitUntilCompleted];
        if ([c status] == MTLCommandBufferStatusError)
            failure = text_of([c error]);
        else if ([c status] != MTLCommandBufferStatusCompleted)
            failure = "an unknown status";
        if ([c GPUEndTime] <= [c GPUStartTime])
            failure = "no time passed";
    }
    return failure;
}

// Gives NULL or the text of a failure, which the caller frees. data is copied to buffers and back.
char *fake_metal_try(const fake_try *t, char *data) {
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    const char *failure = NULL;
    FakeBuffer *buffers[MSLEMU_BUFFERS];
    FakeDevice *device = [MTLCreateSystemDefaultDevice() autorelease];
    FakePipeline *pipeline = device ? [make_pipeline(device, t, &failure) autorelease] : nil;
    if (!device)
        failure = "no device";
    if (pipeline) {
        char *at = data;
        for (unsigned i = 0; i < t->buffers; at += t->sizes[i++]) {
            buffers[i] = [[device newBufferWithLength:t->sizes[i] options:0] autorelease];
            memcpy([buffers[i] contents], at, t -> sizes[i]);
        }
        failure = run_all(device, pipeline, t, buffers);
        at = data;
        for (unsigned i = 0; i < t->buffers; at += t->sizes[i++])
            memcpy(at, [buffers[i] contents], t -> sizes[i]);
    }
    char *text = failure ? strdup(failure) : NULL;
    [pool drain];
    return text;
}
