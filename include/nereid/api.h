// Goal: the mark of what a program outside the tree may call.
// Non-goal: platforms other than ELF; the engine runs on Linux.
#pragma once

#define NEREID_API __attribute__((visibility("default")))
