// What the fake device is told to do wrong. faults.c reads it from the environment variable FAKE_METAL when the library
// is loaded, and from fake_metal_inject at run time, as "name=value;name=value". README.md lists the names.
#pragma once

// Events that are counted, and of which some can be made to go wrong.
typedef enum {
    FAULT_DEVICE,         // MTLCreateSystemDefaultDevice gives nil
    FAULT_LIBRARY,        // newLibraryWithSource: fails
    FAULT_PIPELINE,       // newComputePipelineStateWithFunction: fails
    FAULT_QUEUE,          // newCommandQueue gives nil
    FAULT_BUFFER,         // newBufferWithLength: gives nil
    FAULT_NO_COPY,        // newBufferWithBytesNoCopy: gives nil, or a buffer of length 0
    FAULT_COMMAND_BUFFER, // commandBuffer gives nil
    FAULT_ENCODER,        // computeCommandEncoder gives nil
    FAULT_COMMIT,         // the committed command buffer ends with an error
    FAULT_DISPATCH,       // counts only
    FAULT_SKIP,           // the dispatch does not run, and nothing says so
    FAULT_CORRUPT,        // one element that the dispatch wrote is altered
    FAULT_EVENTS
} fault;

// Counts one event and tells whether it is to go wrong.
int fault_now(fault);

typedef struct {
    char text[512];     // of errors
    long code;          // of errors
    long status;        // with which a command buffer ends that fails
    int no_error;       // it has no NSError
    int late;           // it fails after its dispatches have run
    int sticky;         // after it, its queue ignores submissions
    int old_os;         // no mathMode, as before macOS 15
    int no_copy_empty;  // see FAULT_NO_COPY
    long max_threads;   // maxTotalThreadsPerThreadgroup of new pipelines
    long delay;         // milliseconds that every command buffer takes longer
    int hold;           // command buffers do not begin before this is taken back
    unsigned victim[3]; // the threadgroup that FAULT_CORRUPT alters
} fault_settings;

// A copy: another thread may change them.
fault_settings fault_get(void);

// For probe: replaces all settings and sets the counts to 0.
void fake_metal_inject(const char *);
// For probe: how many events of this name there were since.
long fake_metal_count(const char *);
