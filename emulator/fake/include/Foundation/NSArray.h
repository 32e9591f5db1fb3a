#pragma once
#import <Foundation/NSObjBase.h>
@interface NSArray : NSObject <NSCopying> {
@public
    id *v;
    NSUInteger n;
}
- (NSUInteger)count;
- (id)objectAtIndex:(NSUInteger)i;
@end
@interface NSMutableArray : NSArray
+ (instancetype)arrayWithCapacity:(NSUInteger)n;
- (void)addObject:(id)o;
@end
