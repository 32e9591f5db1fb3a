#pragma once
#import <Foundation/NSObjBase.h>
@interface NSError : NSObject {
@public
    NSString *domain, *text;
    NSInteger code;
}
+ (instancetype)errorWithDomain:(const char *)domain code:(NSInteger)code text:(const char *)text; // ours
- (NSString *)localizedDescription;
- (NSString *)domain;
- (NSInteger)code;
@end
