#include "sched/cache_roots.h"

#include "base/error.h"

namespace nereid::sched {

ContentId CacheRoots::acquire(std::string_view salt) {
  if (free_.empty()) {
    roots_.emplace_back();
    free_.reserve(roots_.capacity());
    free_.push_back(roots_.size() - 1);
  }
  const auto [entry, is_new] = by_salt_.try_emplace(std::string(salt), free_.back());
  Root& root = roots_[entry->second];
  if (is_new) {
    free_.pop_back();
    root.salt = &entry->first;
  }
  root.n_uses += 1;
  return kRootBit | entry->second;
}

void CacheRoots::add_use(ContentId root) { at(root).n_uses += 1; }

void CacheRoots::release(ContentId root) {
  Root& released = at(root);
  released.n_uses -= 1;
  if (released.n_uses > 0) return;
  by_salt_.erase(by_salt_.find(*released.salt));
  released.salt = nullptr;
  free_.push_back(std::size_t(root & ~kRootBit));
}

std::int64_t CacheRoots::n_uses(ContentId root) const {
  const auto index = std::size_t(root & ~kRootBit);
  return is_root(root) && index < roots_.size() ? roots_[index].n_uses : 0;
}

CacheRoots::Root& CacheRoots::at(ContentId root) {
  NEREID_CHECK(n_uses(root) > 0, "{:#x} is no root in use", root);
  return roots_[std::size_t(root & ~kRootBit)];
}

}  // namespace nereid::sched
