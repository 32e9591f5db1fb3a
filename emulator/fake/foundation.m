// A minimal Foundation on the GCC Objective-C runtime: what darwinkit's objc package needs, and counts of objects.
#import <Foundation/Foundation.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic long live, poolless;

// For probe.
long fake_live_objects(void) {
    return live;
}
long fake_autoreleased_without_pool(void) {
    return poolless;
}

Class object_getClass(id o) {
    return o ? *(Class *)o : Nil;
} // missing in the GCC runtime

// With FAKE_METAL_ZOMBIES a freed object stays, as a FakeZombie, which stops the process when it is used.
static BOOL keep_zombies(void) {
    static _Atomic int state;
    if (!state)
        state = getenv("FAKE_METAL_ZOMBIES") ? 2 : 1;
    return state == 2;
}

static void pool_add(id o);

@implementation NSObject
+ (instancetype)alloc {
    live++;
    return class_createInstance(self, 0);
}
+ (instancetype)new {
    return [[self alloc] init];
}
+ (Class)class {
    return self;
}
- (Class)class {
    return isa;
}
- (instancetype)init {
    return self;
}
- (void)dealloc {
    live--;
    isa = objc_getClass("FakeZombie");
}
- (id)retain {
    refs++;
    return self;
}
- (void)release {
    if (atomic_fetch_sub(&refs, 1))
        return;
    [self dealloc];
    if (!keep_zombies())
        free(self);
}
- (id)autorelease {
    pool_add(self);
    return self;
}
- (NSUInteger)retainCount {
    return refs + 1;
}
- (BOOL)isKindOfClass:(Class)c {
    for (Class k = isa; k; k = class_getSuperclass(k))
        if (k == c)
            return YES;
    return NO;
}
- (BOOL)isMemberOfClass:(Class)c {
    return isa == c;
}
- (BOOL)respondsToSelector:(SEL)s {
    return class_respondsToSelector(isa, s);
}
- (BOOL)conformsToProtocol:(Protocol *)p {
    for (Class k = isa; k; k = class_getSuperclass(k))
        if (class_conformsToProtocol(k, p))
            return YES;
    return NO;
}
- (BOOL)isProxy {
    return NO;
}
- (id)copy {
    return [self retain];
}
- (id)mutableCopy {
    return [self retain];
}
- (id)performSelector:(SEL)s {
    return class_getMethodImplementation(isa, s)(self, s);
}
- (id)performSelector:(SEL)s withObject:(id)a {
    return class_getMethodImplementation(isa, s)(self, s, a);
}
- (id)performSelector:(SEL)s withObject:(id)a withObject:(id)b {
    return class_getMethodImplementation(isa, s)(self, s, a, b);
}
- (NSString *)description {
    return [NSString stringWithUTF8String:class_getName(isa)];
}
- (uintptr_t)goID { // darwinkit's property
    return goID;
}
- (void)setGoID:(uintptr_t)v {
    goID = v;
}
@end

struct pool {
    struct pool *outer;
    id *objects;
    long count, capacity;
};
static _Thread_local struct pool *innermost;

static void pool_add(id o) {
    struct pool *p = innermost;
    if (!p) { // it leaks here; on macOS it stays until the thread ends
        poolless++;
        return;
    }
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? p->capacity * 2 : 64;
        p->objects = realloc(p->objects, p->capacity * sizeof(id));
    }
    p->objects[p->count++] = o;
}

@implementation NSAutoreleasePool
- (instancetype)init {
    pool = calloc(1, sizeof *pool);
    pool->outer = innermost;
    innermost = pool;
    return self;
}
- (void)drain {
    struct pool *mine = pool, *p;
    do { // inner pools that a Go panic left behind go first
        p = innermost;
        if (!p) {
            fprintf(stderr, "fake Foundation: an autorelease pool is drained on another thread\n");
            abort();
        }
        for (long i = 0; i < p->count; i++)
            [p->objects[i] release];
        innermost = p->outer;
        free(p->objects);
        free(p);
    } while (p != mine);
    [self release];
}
@end

@interface FakeZombie : NSObject
@end
static void dead(const char *what) {
    fprintf(stderr, "fake Foundation: %s to a freed object\n", what);
    abort();
}
@implementation FakeZombie
- (id)retain {
    dead("retain");
    return nil;
}
- (void)release {
    dead("release");
}
- (id)autorelease {
    dead("autorelease");
    return nil;
}
- (BOOL)respondsToSelector:(SEL)s {
    dead(sel_getName(s));
    return NO;
}
@end

@implementation NSString
+ (instancetype)stringWithUTF8String:(const char *)s {
    NSString *o = [[self alloc] init];
    o->text = strdup(s);
    return [o autorelease];
}
- (const char *)UTF8String {
    return text;
}
- (void)dealloc {
    free(text);
    [super dealloc];
}
@end

@implementation NSData
+ (instancetype)data {
    return [self dataWithBytes:"" length:0];
}
+ (instancetype)dataWithBytes:(const void *)b length:(NSUInteger)n {
    NSData *o = [[self alloc] init];
    o->p = malloc(n + 1);
    memcpy(o->p, b, n);
    o->n = n;
    return [o autorelease];
}
- (const void *)bytes {
    return p;
}
- (NSUInteger)length {
    return n;
}
- (void)dealloc {
    free(p);
    [super dealloc];
}
@end

@implementation NSArray
- (NSUInteger)count {
    return n;
}
- (id)objectAtIndex:(NSUInteger)i {
    if (i >= n) {
        fprintf(stderr, "fake Foundation: NSRangeException: objectAtIndex:%lu of %lu\n", i, n);
        abort();
    }
    return v[i];
}
- (void)dealloc {
    for (NSUInteger i = 0; i < n; i++)
        [v[i] release];
    free(v);
    [super dealloc];
}
@end

@implementation NSMutableArray
+ (instancetype)arrayWithCapacity:(NSUInteger)capacity {
    return [[[self alloc] init] autorelease];
}
- (void)addObject:(id)o {
    v = realloc(v, (n + 1) * sizeof(id));
    v[n++] = [o retain];
}
@end

@implementation NSDictionary
- (NSArray *)allKeys {
    return keys;
}
- (id)objectForKeyedSubscript:(id)k {
    for (NSUInteger i = 0; i < [keys count]; i++)
        if (!strcmp([[keys objectAtIndex:i] UTF8String], [k UTF8String]))
            return [vals objectAtIndex:i];
    return nil;
}
- (void)dealloc {
    [keys release];
    [vals release];
    [super dealloc];
}
@end

@implementation NSMutableDictionary
+ (instancetype)dictionaryWithCapacity:(NSUInteger)capacity {
    return [[[self alloc] init] autorelease];
}
- (instancetype)init {
    keys = [NSMutableArray new];
    vals = [NSMutableArray new];
    return self;
}
- (void)setObject:(id)o forKey:(id)k {
    [(NSMutableArray *)keys addObject:k];
    [(NSMutableArray *)vals addObject:o];
}
@end

@implementation NSError
+ (instancetype)errorWithDomain:(const char *)domain code:(NSInteger)code text:(const char *)text {
    NSError *o = [[self alloc] init];
    o->domain = [[NSString stringWithUTF8String:domain] retain];
    o->code = code;
    o->text = [[NSString stringWithUTF8String:text] retain];
    return [o autorelease];
}
- (NSString *)localizedDescription {
    return text;
}
- (NSString *)domain {
    return domain;
}
- (NSInteger)code {
    return code;
}
- (void)dealloc {
    [text release];
    [domain release];
    [super dealloc];
}
@end

// On macOS a dispatch_data_t is an object that also answers to NSData's methods. This one copies, as with no destructor there.
void *dispatch_data_create(const void *bytes, unsigned long n, void *queue, void *destructor) {
    (void)queue;
    (void)destructor;
    return [[NSData dataWithBytes:bytes length:n] retain];
}
