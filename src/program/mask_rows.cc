#include "program/mask_rows.h"

#include "base/error.h"

namespace nereid::program {

void MaskRows::place(device::Address address, std::int64_t n_rows, std::int64_t n_words) {
  address_ = address;
  n_rows_ = static_cast<std::size_t>(n_rows);
  n_words_ = static_cast<std::size_t>(n_words);
}

std::span<std::uint32_t> MaskRows::row(std::int32_t index) {
  const auto row = static_cast<std::size_t>(index);
  NEREID_CHECK(row < n_rows_, "row {} of {}", index, n_rows_);
  if (words_ == nullptr && device_.reads_host_memory()) {
    words_ = reinterpret_cast<std::uint32_t*>(address_);
  } else if (words_ == nullptr) {
    staging_ = device_.allocate_host(n_rows_ * n_words_ * sizeof(std::uint32_t), "token masks");
    words_ = reinterpret_cast<std::uint32_t*>(staging_.bytes().data());
  }
  return {words_ + row * n_words_, n_words_};
}

void MaskRows::send(std::span<const std::int32_t> rows) {
  if (device_.reads_host_memory()) return;
  const auto row_bytes = n_words_ * sizeof(std::uint32_t);
  for (std::size_t i = 0; i < rows.size();) {
    const auto first = static_cast<std::size_t>(rows[i]);
    std::size_t n = 1;
    while (i + n < rows.size() && static_cast<std::size_t>(rows[i + n]) == first + n) ++n;
    NEREID_CHECK(first + n <= n_rows_ && words_ != nullptr, "rows {} to {} of {}", first,
                 first + n - 1, n_rows_);
    device_.queue_upload(address_ + first * row_bytes,
                         staging_.bytes().subspan(first * row_bytes, n * row_bytes));
    i += n;
  }
}

}  // namespace nereid::program
