#pragma once
#import <Foundation/NSObjBase.h>
@interface NSString : NSObject <NSCopying> {
@public
    char *text;
}
+ (instancetype)stringWithUTF8String:(const char *)s;
- (const char *)UTF8String;
@end
