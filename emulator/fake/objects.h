// The classes behind Metal's protocols, as far as a compute program meets them.
#import <Foundation/Foundation.h>
#include "../msl/mslemu.h"
#include "faults.h"

typedef struct {
    uint64_t width, height, depth;
} MTLSize;

enum { // MTLCommandBufferStatus
    MTLCommandBufferStatusNotEnqueued = 0,
    MTLCommandBufferStatusCommitted = 2,
    MTLCommandBufferStatusCompleted = 4,
    MTLCommandBufferStatusError = 5,
};

enum {
    apple_page = 16384,       // Apple silicon's, whatever this machine's is
    guard_size = 1 << 20,     // unreadable memory on both sides of a buffer that the device allocates
    command_buffers_max = 64, // of a queue
    set_bytes_max = 4096,
};
static const NSUInteger buffer_max = 1ul << 33;

@class FakeCommandBuffer, FakeFunction;

@interface MTLCompileOptions : NSObject {
@public
    BOOL fast;
    NSInteger math;
    NSUInteger language;
}
- (void)setFastMathEnabled:(BOOL)on;
@end

@interface FakeDevice : NSObject
- (id)newLibraryWithSource:(NSString *)source options:(MTLCompileOptions *)options error:(NSError **)error;
- (id)newLibraryWithData:(NSData *)data error:(NSError **)error;
- (id)newComputePipelineStateWithFunction:(FakeFunction *)function error:(NSError **)error;
- (id)newCommandQueue;
@end

@interface FakeDevice (Buffers)
- (id)newBufferWithLength:(NSUInteger)n options:(NSUInteger)options;
- (id)newBufferWithBytesNoCopy:(void *)p
                        length:(NSUInteger)n
                       options:(NSUInteger)options
                   deallocator:(void (^)(void *, NSUInteger))deallocator;
@end

@interface FakeLibrary : NSObject {
@public
    const mslemu_kernel *kernels;
    BOOL fast;
}
- (id)newFunctionWithName:(NSString *)name;
@end

@interface FakeFunction : NSObject {
@public
    const mslemu_kernel *kernel;
    BOOL fast;
}
@end

@interface FakePipeline : NSObject {
@public
    const mslemu_kernel *kernel;
    BOOL fast;
    NSUInteger maxThreads;
}
@end

@interface FakeBuffer : NSObject {
@public
    char *data;
    NSUInteger size;
    NSUInteger mapped; // bytes of a mapping of ours, guards included
    BOOL allocated;    // data is malloc's
    FakeCommandBuffer *lastUser;
}
- (void *)contents;
@end

@interface FakeQueue : NSObject {
@public
    long unfinished; // command buffers
    BOOL lost;
}
- (id)commandBuffer;
@end

// What an encoder holds when a dispatch is encoded.
typedef struct {
    FakeBuffer *buffer;
    NSUInteger offset;
    void *bytes; // setBytes:, a copy
    NSUInteger length;
} fake_argument;

typedef struct fake_command {
    FakePipeline *pipeline;
    MTLSize grid, threadgroup; // in threads
    fake_argument arguments[MSLEMU_BUFFERS];
    NSUInteger threadgroupMemory[MSLEMU_THREADGROUP_BUFFERS];
    BOOL skip, corrupt;
    struct fake_command *next;
} fake_command;

@interface FakeCommandBuffer : NSObject {
@public
    FakeQueue *queue;
    fake_command *first, **last;
    BOOL encoding, committed, done;
    BOOL failing; // decided by commit
    fault_settings how;
    NSUInteger status;
    NSError *error;
    double start, end;
    FakeCommandBuffer **after; // earlier ones that use the same buffers
    long afterCount;
}
- (id)computeCommandEncoder;
- (void)commit;
- (void)waitUntilCompleted;
- (NSUInteger)status;
- (NSError *)error;
- (double)GPUStartTime;
- (double)GPUEndTime;
@end

@interface FakeEncoder : NSObject {
@public
    FakeCommandBuffer *commandBuffer;
    fake_command current;
    BOOL ended;
}
- (void)setComputePipelineState:(FakePipeline *)pipeline;
- (void)setBuffer:(FakeBuffer *)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)i;
- (void)setThreadgroupMemoryLength:(NSUInteger)n atIndex:(NSUInteger)i;
- (void)dispatchThreads:(MTLSize)grid threadsPerThreadgroup:(MTLSize)threadgroup;
- (void)endEncoding;
@end

void fake_metal_die(const char *what) __attribute__((noreturn));
double fake_metal_now(void);

// The module of a .metal text, compiled if need be. On failure it gives NULL and text, which the caller frees.
const mslemu_kernel *fake_metal_compile(const char *source, char **text);

// Whether kernels are compiled with -ffast-math and flush subnormals whatever the options say.
BOOL fake_metal_all_fast(void);
