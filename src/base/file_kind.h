// Goal: to recognise what often lies in a file's place: a pointer of git-lfs, a web server's page,
// a download that never began. The cure is another download, not a look for damage.
// Non-goal: checking a file of the right kind: its parser does.
#pragma once

#include <string>
#include <string_view>

namespace nereid {

// What `content` is instead of JSON or tensors, with the cure; empty where nothing is recognised.
std::string mistaken_file(std::string_view content);

}  // namespace nereid
