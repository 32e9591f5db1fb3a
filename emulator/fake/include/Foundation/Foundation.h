#pragma once
#import <Foundation/NSObjBase.h>
#import <Foundation/NSString.h>
#import <Foundation/NSData.h>
#import <Foundation/NSError.h>
#import <Foundation/NSArray.h>
#import <Foundation/NSDictionary.h>
@protocol NSCacheDelegate
@end
@protocol NSConnectionDelegate
@end
@protocol NSDecimalNumberBehaviors
@end
@protocol NSDiscardableContent
@end
@protocol NSExtensionRequestHandling
@end
@protocol NSFastEnumeration
@end
@protocol NSFileManagerDelegate
@end
@protocol NSFilePresenter
@end
@protocol NSItemProviderWriting
@end
@protocol NSKeyedArchiverDelegate
@end
@protocol NSKeyedUnarchiverDelegate
@end
@protocol NSLocking
@end
@protocol NSMachPortDelegate
@end
@protocol NSMetadataQueryDelegate
@end
@protocol NSNetServiceBrowserDelegate
@end
@protocol NSNetServiceDelegate
@end
@protocol NSPortDelegate
@end
@protocol NSProgressReporting
@end
@protocol NSSpellServerDelegate
@end
@protocol NSStreamDelegate
@end
@protocol NSURLAuthenticationChallengeSender
@end
@protocol NSURLConnectionDataDelegate
@end
@protocol NSURLConnectionDelegate
@end
@protocol NSURLConnectionDownloadDelegate
@end
@protocol NSURLDownloadDelegate
@end
@protocol NSURLHandleClient
@end
@protocol NSURLProtocolClient
@end
@protocol NSURLSessionDataDelegate
@end
@protocol NSURLSessionDelegate
@end
@protocol NSURLSessionDownloadDelegate
@end
@protocol NSURLSessionStreamDelegate
@end
@protocol NSURLSessionTaskDelegate
@end
@protocol NSURLSessionWebSocketDelegate
@end
@protocol NSUserActivityDelegate
@end
@protocol NSUserNotificationCenterDelegate
@end
@protocol NSXMLParserDelegate
@end
@protocol NSXPCListenerDelegate
@end
@protocol NSXPCProxyCreating
@end
