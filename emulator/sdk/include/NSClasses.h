// The classes of Foundation that darwinkit's C code names, with the methods that it calls.
#pragma once
#include <stddef.h>
#include <stdint.h>
#import <objc/NSObject.h>
typedef unsigned char Byte;

@protocol NSCopying
- (id)copy;
@end
@protocol NSMutableCopying
- (id)mutableCopy;
@end
@protocol NSCoding
@end

@interface NSString : NSObject <NSCopying>
+ (instancetype)stringWithUTF8String:(const char *)s;
- (const char *)UTF8String;
@end

@interface NSData : NSObject <NSCopying>
+ (instancetype)data;
+ (instancetype)dataWithBytes:(const void *)bytes length:(NSUInteger)n;
- (const void *)bytes;
@property (readonly) NSUInteger length;
@end

@interface NSArray : NSObject <NSCopying>
- (NSUInteger)count;
- (id)objectAtIndex:(NSUInteger)i;
@end

@interface NSMutableArray : NSArray
+ (instancetype)arrayWithCapacity:(NSUInteger)n;
- (void)addObject:(id)o;
@end

@interface NSDictionary : NSObject <NSCopying>
- (NSArray *)allKeys;
- (id)objectForKeyedSubscript:(id)k;
@end

@interface NSMutableDictionary : NSDictionary
+ (instancetype)dictionaryWithCapacity:(NSUInteger)n;
- (void)setObject:(id)o forKey:(id<NSCopying>)k;
@end
