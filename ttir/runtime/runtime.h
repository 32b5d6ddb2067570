// Goal: all that an emitted kernel includes; precompiled once per set of compiler flags.
// Non-goal: use by the engine: these headers are compiled for the instruction set of the kernels.
// Rejected: finer includes per kernel: one precompiled header serves all.
#pragma once

#include "convert.h"
#include "dot.h"
#include "dot_int8.h"
#include "libdevice.h"
#include "loops.h"
#include "math.h"
#include "memory.h"
#include "ptx.h"
#include "report.h"
#include "scaled.h"
#include "vec.h"
