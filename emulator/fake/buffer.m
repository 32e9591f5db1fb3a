// MTLBuffer: memory that the device allocates, between guards, or memory that the program brings.
#include "objects.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

@implementation FakeBuffer
- (void *)contents {
    return data;
}
- (NSUInteger)length {
    return size;
}
- (void)dealloc {
    if (allocated)
        free(data);
    if (mapped)
        munmap(data - guard_size, mapped);
    [super dealloc];
}
@end

#if __has_feature(address_sanitizer)
static BOOL allocate(FakeBuffer *b) { // its redzones are finer than guard pages
    b->allocated = !posix_memalign((void **)&b->data, apple_page, b->size);
    if (b->allocated)
        memset(b->data, 0, b->size);
    return b->allocated;
}
#else
static BOOL allocate(FakeBuffer *b) {
    NSUInteger page = getpagesize(), all = (b->size + page - 1) / page * page + 2 * guard_size;
    char *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NO;
    mprotect(p, guard_size, PROT_NONE);
    mprotect(p + all - guard_size, guard_size, PROT_NONE);
    b->data = p + guard_size;
    b->mapped = all;
    return YES;
}
#endif

// one_mapping tells whether the range lies in one anonymous, private, writable mapping: what Metal's documentation asks
// for, and never a mapped file, which the driver would wire as a whole.
static BOOL one_mapping(const char *p, NSUInteger n) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512], mode[5];
    unsigned long begin, end, inode;
    BOOL found = NO;
    if (!f)
        return YES;
    while (!found && fgets(line, sizeof line, f))
        if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &begin, &end, mode, &inode) == 4)
            found = begin <= (uintptr_t)p && (uintptr_t)p + n <= end && !strncmp(mode, "rw", 2) && mode[3] == 'p' &&
                    inode == 0 && !strstr(line, "[heap]");
    fclose(f);
    return found;
}

@implementation FakeDevice (Buffers)
- (id)newBufferWithLength:(NSUInteger)n options:(NSUInteger)options {
    if (fault_now(FAULT_BUFFER) || !n || n > buffer_max)
        return nil;
    FakeBuffer *b = [FakeBuffer new];
    b->size = n;
    if (allocate(b))
        return b;
    [b release];
    return nil;
}

- (id)newBufferWithBytesNoCopy:(void *)p
                        length:(NSUInteger)n
                       options:(NSUInteger)options
                   deallocator:(void (^)(void *, NSUInteger))deallocator {
    if ((uintptr_t)p % getpagesize() || n % apple_page || !n)
        fake_metal_die("newBufferWithBytesNoCopy: an address or a length that is not a whole number of pages");
    if (!one_mapping(p, n))
        fake_metal_die("newBufferWithBytesNoCopy: not one anonymous mapping");
    if (deallocator)
        fake_metal_die("newBufferWithBytesNoCopy: a deallocator block was given");
    BOOL wrong = fault_now(FAULT_NO_COPY), empty = fault_get().no_copy_empty;
    if (wrong && !empty)
        return nil;
    FakeBuffer *b = [FakeBuffer new];
    b->data = p;
    b->size = wrong ? 0 : n;
    return b;
}
@end
