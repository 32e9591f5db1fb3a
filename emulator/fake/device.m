// The fake device and what it makes: compile options, libraries, functions, pipelines.
#include "objects.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void fake_metal_die(const char *what) {
    fprintf(stderr, "fake Metal: %s\n", what);
    abort();
}

double fake_metal_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

enum { math_safe = 0, math_fast = 2 }; // MTLMathMode

@interface MTLCompileOptionsInternal : MTLCompileOptions // as in Metal, +new on the public class makes a private one
@end

@implementation MTLCompileOptions
+ (instancetype)alloc {
    return self == [MTLCompileOptions class] ? [MTLCompileOptionsInternal alloc] : [super alloc];
}
- (instancetype)init {
    fast = YES;
    math = math_fast;
    return self;
}
- (void)setFastMathEnabled:(BOOL)on {
    fast = on;
    math = on ? math_fast : math_safe;
}
- (BOOL)fastMathEnabled {
    return fast;
}
- (void)setMathMode:(NSInteger)mode {
    if (fault_get().old_os)
        fake_metal_die("-[MTLCompileOptions setMathMode:]: unrecognized selector, before macOS 15");
    if (mode < math_safe || mode > math_fast)
        fake_metal_die("no such mathMode");
    math = mode;
    fast = mode == math_fast;
}
- (NSInteger)mathMode {
    return math;
}
- (BOOL)respondsToSelector:(SEL)s {
    const char *name = sel_getName(s);
    if (fault_get().old_os && (!strcmp(name, "setMathMode:") || !strcmp(name, "mathMode")))
        return NO;
    return [super respondsToSelector:s];
}
- (void)setLanguageVersion:(NSUInteger)version {
    language = version;
}
- (NSUInteger)languageVersion {
    return language;
}
@end

@implementation MTLCompileOptionsInternal
@end

@implementation FakeFunction
- (NSString *)name {
    return [NSString stringWithUTF8String:kernel->name];
}
@end

@implementation FakePipeline
- (NSUInteger)threadExecutionWidth {
    return 32;
}
- (NSUInteger)maxTotalThreadsPerThreadgroup {
    return maxThreads;
}
@end

@implementation FakeLibrary
- (id)newFunctionWithName:(NSString *)name {
    for (const mslemu_kernel *k = kernels; k->name; k++) {
        if (strcmp(k->name, [name UTF8String]))
            continue;
        FakeFunction *f = [FakeFunction new];
        f->kernel = k;
        f->fast = fast;
        return f;
    }
    return nil;
}
@end

@implementation FakeDevice
- (NSString *)name {
    return [NSString stringWithUTF8String:"Fake Metal"];
}
- (BOOL)hasUnifiedMemory {
    return YES;
}
- (NSUInteger)maxBufferLength {
    return buffer_max;
}
- (NSUInteger)maxThreadgroupMemoryLength {
    return MSLEMU_THREADGROUP_MEMORY;
}
- (MTLSize)maxThreadsPerThreadgroup {
    MTLSize s = {MSLEMU_MAX_THREADS, MSLEMU_MAX_THREADS, 64};
    return s;
}
- (uint64_t)recommendedMaxWorkingSetSize {
    return 1ul << 34;
}
- (uint64_t)currentAllocatedSize {
    return 0;
}
- (uint64_t)registryID {
    return 1;
}
- (BOOL)isLowPower {
    return NO;
}
- (BOOL)isRemovable {
    return NO;
}
- (BOOL)isHeadless {
    return NO;
}
- (BOOL)supportsFamily:(NSInteger)family {
    return family >= 1001 && family <= 1007; // Apple1 to Apple7: an M1
}

- (id)newLibraryWithSource:(NSString *)source options:(MTLCompileOptions *)options error:(NSError **)error {
    if (!source || (options && ![options isKindOfClass:[MTLCompileOptionsInternal class]]))
        fake_metal_die("newLibraryWithSource: no text, or options that +new did not make");
    char *text = NULL;
    const mslemu_kernel *kernels = NULL;
    if (fault_now(FAULT_LIBRARY))
        text = strdup(fault_get().text);
    else
        kernels = fake_metal_compile([source UTF8String], &text);
    if (!kernels) {
        if (error)
            *error = [NSError errorWithDomain:"MTLLibraryErrorDomain" code:3 text:text];
        free(text);
        return nil;
    }
    FakeLibrary *library = [FakeLibrary new];
    library->kernels = kernels;
    library->fast = !options || options->fast;
    return library;
}

// A fake metallib is the letters MTLB and the text that it was made of.
- (id)newLibraryWithData:(NSData *)data error:(NSError **)error {
    if ([data length] < 4 || memcmp([data bytes], "MTLB", 4)) {
        if (error)
            *error = [NSError errorWithDomain:"MTLLibraryErrorDomain" code:1 text:"Invalid library file"];
        return nil;
    }
    char *text = strndup((const char *)[data bytes] + 4, [data length] - 4);
    FakeLibrary *library = [self newLibraryWithSource:[NSString stringWithUTF8String:text] options:nil error:error];
    free(text);
    if (library)
        library->fast = NO; // as it was compiled
    return library;
}

- (id)newComputePipelineStateWithFunction:(FakeFunction *)function error:(NSError **)error {
    if (![function isKindOfClass:[FakeFunction class]])
        fake_metal_die("newComputePipelineStateWithFunction: not a MTLFunction");
    if (fault_now(FAULT_PIPELINE)) {
        if (error)
            *error = [NSError errorWithDomain:"AGXMetal" code:3 text:fault_get().text];
        return nil;
    }
    FakePipeline *pipeline = [FakePipeline new];
    pipeline->kernel = function->kernel;
    pipeline->fast = function->fast;
    pipeline->maxThreads = fault_get().max_threads;
    return pipeline;
}

- (id)newCommandQueue {
    return fault_now(FAULT_QUEUE) ? nil : [FakeQueue new];
}
@end

id MTLCreateSystemDefaultDevice(void) {
    return fault_now(FAULT_DEVICE) ? nil : [FakeDevice new];
}

// Where there is a default device it is in the list, and where it fails the list is empty.
NSArray *MTLCopyAllDevices(void) {
    NSMutableArray *list = [NSMutableArray new];
    FakeDevice *device = MTLCreateSystemDefaultDevice();
    if (device)
        [list addObject:device];
    [device release];
    return list;
}
