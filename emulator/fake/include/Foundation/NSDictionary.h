#pragma once
#import <Foundation/NSObjBase.h>
#import <Foundation/NSArray.h>
@interface NSDictionary : NSObject <NSCopying> {
@public
    NSArray *keys, *vals;
}
- (NSArray *)allKeys;
- (id)objectForKeyedSubscript:(id)k;
@end
@interface NSMutableDictionary : NSDictionary
+ (instancetype)dictionaryWithCapacity:(NSUInteger)n;
- (void)setObject:(id)o forKey:(id<NSCopying>)k;
@end
