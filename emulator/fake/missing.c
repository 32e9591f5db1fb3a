// What the GCC runtime and the system lack and darwinkit links against. The product must not use it: each ends the
// process.
#include <stdio.h>
#include <stdlib.h>

#define MISSING(f)                                                                                                     \
    void f(void) {                                                                                                     \
        fprintf(stderr, "fake Foundation: " #f " is not there\n");                                                     \
        abort();                                                                                                       \
    }

MISSING(class_addProperty)
MISSING(class_replaceProperty)
MISSING(imp_getBlock)
MISSING(imp_implementationWithBlock)
MISSING(imp_removeBlock)
MISSING(objc_allocateProtocol)
MISSING(objc_getAssociatedObject)
MISSING(objc_removeAssociatedObjects)
MISSING(objc_setAssociatedObject)
MISSING(property_copyAttributeList)
MISSING(property_copyAttributeValue)
MISSING(dispatch_get_main_queue)
MISSING(dispatch_get_global_queue)
MISSING(dispatch_retain)
MISSING(dispatch_release)
MISSING(dispatch_async)
MISSING(dispatch_sync)

void *class_getMethodImplementation(void *, void *);
void *class_getMethodImplementation_stret(void *c, void *s) {
    return class_getMethodImplementation(c, s);
}
