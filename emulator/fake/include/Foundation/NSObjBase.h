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
