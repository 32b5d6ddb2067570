// Goal: the roots of the prefix cache: a number for each salt in use, so that chains of blocks
// that start alike under different salts never meet. Salts are compared whole.
// Non-goal: what a salt stands for (a tenant, a user): the caller's.
// Rejected: keeping every salt ever seen. A salt lives while a sequence or a registered block uses
// it; after that nothing is known under its number, which may be given again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nereid::sched {

// What is known of a prefix: a root, or a registered block and all that comes before it. 0:
// nothing.
using ContentId = std::uint64_t;

class CacheRoots {
 public:
  static bool is_root(ContentId content) { return (content & kRootBit) != 0; }

  // One use more of the salt's root. Only this call may allocate host memory.
  ContentId acquire(std::string_view salt);
  void add_use(ContentId root);
  void release(ContentId root);

  // Uses of the root; 0: no such root.
  std::int64_t n_uses(ContentId root) const;
  std::int64_t size() const { return std::int64_t(by_salt_.size()); }

 private:
  static constexpr ContentId kRootBit = ContentId{1} << 63;

  struct Root {
    const std::string* salt = nullptr;  // the key in by_salt_; null: free
    std::int64_t n_uses = 0;
  };

  Root& at(ContentId root);

  std::unordered_map<std::string, std::size_t> by_salt_;  // index in roots_
  std::vector<Root> roots_;
  std::vector<std::size_t> free_;  // room for all of roots_
};

}  // namespace nereid::sched
