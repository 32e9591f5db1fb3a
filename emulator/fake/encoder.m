// MTLComputeCommandEncoder, as strict as Metal's API validation.
#include "objects.h"
#include <stdlib.h>
#include <string.h>

static void retain_all(fake_command *c) {
    [c->pipeline retain];
    for (int i = 0; i < MSLEMU_BUFFERS; i++) {
        fake_argument *a = &c->arguments[i];
        [a->buffer retain];
        if (a->bytes)
            a->bytes = memcpy(malloc(a->length), a->bytes, a->length);
    }
}

static void release_all(fake_command *c) {
    [c->pipeline release];
    for (int i = 0; i < MSLEMU_BUFFERS; i++) {
        [c->arguments[i].buffer release];
        free(c->arguments[i].bytes);
    }
}

void fake_command_free(fake_command *c) {
    release_all(c);
    free(c);
}

@implementation FakeEncoder
- (void)mustBeOpen {
    if (ended)
        fake_metal_die("an encoder is used after endEncoding");
}

- (void)setComputePipelineState:(FakePipeline *)pipeline {
    [self mustBeOpen];
    if (![pipeline isKindOfClass:[FakePipeline class]])
        fake_metal_die("setComputePipelineState: not a MTLComputePipelineState");
    [pipeline retain];
    [current.pipeline release];
    current.pipeline = pipeline;
}

- (void)setArgument:(fake_argument)argument atIndex:(NSUInteger)i {
    [self mustBeOpen];
    if (i >= MSLEMU_BUFFERS)
        fake_metal_die("no such buffer index");
    [argument.buffer retain];
    [current.arguments[i].buffer release];
    free(current.arguments[i].bytes);
    current.arguments[i] = argument;
}

- (void)setBuffer:(FakeBuffer *)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)i {
    if (buffer && ![buffer isKindOfClass:[FakeBuffer class]])
        fake_metal_die("setBuffer: not a MTLBuffer");
    if (buffer && offset >= buffer->size)
        fake_metal_die("setBuffer: an offset at or behind the buffer's end");
    fake_argument a = {.buffer = buffer, .offset = offset};
    [self setArgument:a atIndex:i];
}

- (void)setBufferOffset:(NSUInteger)offset atIndex:(NSUInteger)i {
    [self mustBeOpen];
    if (i >= MSLEMU_BUFFERS || !current.arguments[i].buffer || offset >= current.arguments[i].buffer->size)
        fake_metal_die("setBufferOffset: no buffer there, or an offset behind its end");
    current.arguments[i].offset = offset;
}

- (void)setBytes:(const void *)bytes length:(NSUInteger)n atIndex:(NSUInteger)i {
    if (!n || n > set_bytes_max)
        fake_metal_die("setBytes: no bytes, or more than 4096");
    fake_argument a = {.bytes = memcpy(malloc(n), bytes, n), .length = n};
    [self setArgument:a atIndex:i];
}

- (void)setThreadgroupMemoryLength:(NSUInteger)n atIndex:(NSUInteger)i {
    [self mustBeOpen];
    if (i >= MSLEMU_THREADGROUP_BUFFERS || n % 16)
        fake_metal_die("setThreadgroupMemoryLength: no such index, or a length that is not a multiple of 16");
    current.threadgroupMemory[i] = n;
}

- (void)checkGrid:(MTLSize)g threadgroup:(MTLSize)t {
    [self mustBeOpen];
    if (!current.pipeline)
        fake_metal_die("a dispatch without a pipeline state");
    if (!t.width || !t.height || !t.depth || t.width * t.height * t.depth > current.pipeline->maxThreads)
        fake_metal_die("threads per threadgroup: none, or beyond the pipeline's maxTotalThreadsPerThreadgroup");
    if (!g.width || !g.height || !g.depth)
        fake_metal_die("an empty grid");
    if (g.width > UINT32_MAX || g.height > UINT32_MAX || g.depth > UINT32_MAX)
        fake_metal_die("a grid of 2^32 threads or more");
    NSUInteger total = 0;
    for (int i = 0; i < MSLEMU_THREADGROUP_BUFFERS; i++)
        total += current.threadgroupMemory[i];
    if (total > MSLEMU_THREADGROUP_MEMORY)
        fake_metal_die("threadgroup memory beyond the device's maxThreadgroupMemoryLength");
}

- (void)dispatchThreads:(MTLSize)grid threadsPerThreadgroup:(MTLSize)threadgroup {
    [self checkGrid:grid threadgroup:threadgroup];
    fake_command *c = malloc(sizeof *c);
    *c = current;
    c->grid = grid;
    c->threadgroup = threadgroup;
    c->next = NULL;
    retain_all(c);
    *commandBuffer->last = c;
    commandBuffer->last = &c->next;
}

- (void)dispatchThreadgroups:(MTLSize)n threadsPerThreadgroup:(MTLSize)t {
    MTLSize grid = {n.width * t.width, n.height * t.height, n.depth * t.depth};
    [self dispatchThreads:grid threadsPerThreadgroup:t];
}

- (void)endEncoding {
    [self mustBeOpen];
    ended = YES;
    commandBuffer->encoding = NO;
}

- (void)dealloc {
    if (!ended)
        fake_metal_die("an encoder is released before endEncoding");
    release_all(&current);
    [commandBuffer release];
    [super dealloc];
}
@end
