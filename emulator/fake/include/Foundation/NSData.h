#pragma once
#import <Foundation/NSObjBase.h>
@interface NSData : NSObject <NSCopying> {
@public
    void *p;
    NSUInteger n;
}
+ (instancetype)data;
+ (instancetype)dataWithBytes:(const void *)b length:(NSUInteger)n;
- (const void *)bytes;
@property (readonly) NSUInteger length;
@end
