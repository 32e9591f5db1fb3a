#pragma once
#import <objc/objc.h>
#import <objc/runtime.h>
@class NSString, Protocol;

@protocol NSObject
- (Class)class;
- (BOOL)isKindOfClass:(Class)c;
- (BOOL)isMemberOfClass:(Class)c;
- (BOOL)respondsToSelector:(SEL)s;
- (BOOL)conformsToProtocol:(Protocol *)p;
- (BOOL)isProxy;
- (id)retain;
- (void)release;
- (id)autorelease;
- (NSUInteger)retainCount;
- (id)performSelector:(SEL)s;
- (id)performSelector:(SEL)s withObject:(id)a;
- (id)performSelector:(SEL)s withObject:(id)a withObject:(id)b;
- (NSString *)description;
@end

__attribute__((objc_root_class))
@interface NSObject<NSObject> {
@public
    Class isa;
    _Atomic long refs; // extra references
    uintptr_t goID;    // darwinkit's property, which the GCC runtime's fragile ABI does not synthesize
}
+ (instancetype)new;
+ (instancetype)alloc;
+ (Class)class;
- (instancetype)init;
- (void)dealloc;
- (id)copy;
- (id)mutableCopy;
@end

@interface NSAutoreleasePool : NSObject {
    struct pool *pool;
}
- (void)drain;
@end
