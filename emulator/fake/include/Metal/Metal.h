#pragma once
#import <Foundation/Foundation.h>
@protocol MTLAccelerationStructure
@end
@protocol MTLAccelerationStructureCommandEncoder
@end
@protocol MTLArgumentEncoder
@end
@protocol MTLBinaryArchive
@end
@protocol MTLBlitCommandEncoder
@end
@protocol MTLBuffer
@end
@protocol MTLCaptureScope
@end
@protocol MTLCommandBuffer
@end
@protocol MTLCommandBufferEncoderInfo
@end
@protocol MTLCommandEncoder
@end
@protocol MTLCommandQueue
@end
@protocol MTLComputeCommandEncoder
@end
@protocol MTLComputePipelineState
@end
@protocol MTLCounter
@end
@protocol MTLCounterSampleBuffer
@end
@protocol MTLCounterSet
@end
@protocol MTLDepthStencilState
@end
@protocol MTLDevice
@end
@protocol MTLDrawable
@end
@protocol MTLDynamicLibrary
@end
@protocol MTLEvent
@end
@protocol MTLFence
@end
@protocol MTLFunction
@end
@protocol MTLFunctionHandle
@end
@protocol MTLFunctionLog
@end
@protocol MTLFunctionLogDebugLocation
@end
@protocol MTLFunctionStitchingAttribute
@end
@protocol MTLFunctionStitchingNode
@end
@protocol MTLHeap
@end
@protocol MTLIndirectCommandBuffer
@end
@protocol MTLIndirectComputeCommand
@end
@protocol MTLIndirectRenderCommand
@end
@protocol MTLIntersectionFunctionTable
@end
@protocol MTLLibrary
@end
@protocol MTLLogContainer
@end
@protocol MTLParallelRenderCommandEncoder
@end
@protocol MTLRasterizationRateMap
@end
@protocol MTLRenderCommandEncoder
@end
@protocol MTLRenderPipelineState
@end
@protocol MTLResource
@end
@protocol MTLResourceStateCommandEncoder
@end
@protocol MTLSamplerState
@end
@protocol MTLSharedEvent
@end
@protocol MTLTexture
@end
@protocol MTLVisibleFunctionTable
@end
