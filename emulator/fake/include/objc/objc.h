#pragma once
// Our own declarations of the parts of the Objective-C runtime API that darwinkit uses.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
typedef struct objc_class *Class;
typedef struct objc_object {
    Class class_pointer;
} *id;
typedef const struct objc_selector *SEL;
typedef id (*IMP)(id, SEL, ...);
typedef bool BOOL;
#define YES ((BOOL)1)
#define NO ((BOOL)0)
#ifndef nil
#define nil ((id)0)
#endif
#define Nil ((Class)0)
typedef long NSInteger;
typedef unsigned long NSUInteger;
