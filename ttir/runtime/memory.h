// Goal: loads and stores of sixteen lanes that never touch a lane that is masked off, whatever the
// element type.
// Non-goal: deciding which lanes are on: the emitted code says so with All, FirstN or a Mask.
// Rejected: hn::MaskedLoad on 16-bit lanes below AVX-512: it reads all lanes and blends.
#pragma once

#include <hwy/cache_control.h>
#include <sched.h>

#include <algorithm>

#include "float8.h"

namespace nereid::rt {

// Which lanes of a vector are on: every one, or the first n (clamped to 0 .. 16).
struct All {};
struct FirstN {
  std::int64_t n;
};
RT_INLINE Mask lanes(All) { return first_n(kVec); }
RT_INLINE Mask lanes(FirstN f) { return first_n(f.n); }
RT_INLINE Mask lanes(const Mask& m) { return m; }
RT_INLINE bool any(All) { return true; }
RT_INLINE bool any(FirstN f) { return f.n > 0; }

// The type that carries a loaded element.
template <class T>
struct ValueOf {
  using type = T;
};
template <>
struct ValueOf<f16> {
  using type = float;
};
template <>
struct ValueOf<bf16> {
  using type = float;
};
template <int M, int B, bool I, bool F>
struct ValueOf<Float8<M, B, I, F>> {
  using type = float;
};
template <class T>
using ValueT = typename ValueOf<std::remove_const_t<T>>::type;

template <class T>
RT_INLINE ValueT<T> load_scalar(const T* p) {
  if constexpr (std::is_same_v<T, f16>) {
    std::int16_t bits;  // where ARM has the type itself, it has no member of them
    std::memcpy(&bits, p, sizeof(bits));
    return f16_value(bits);
  } else if constexpr (std::is_same_v<T, bf16>) {
    return std::bit_cast<float>(std::uint32_t(p->bits) << 16);
  } else if constexpr (kIsFloat8<T>) {
    return f8_value<T>(std::int8_t(p->bits));
  } else {
    T x;
    std::memcpy(&x, p, sizeof(T));
    return x;
  }
}
template <class T>
RT_INLINE void store_scalar(T* p, ValueT<T> x) {
  if constexpr (std::is_same_v<T, f16>) {
    const std::int16_t bits = f16_bits(x);
    std::memcpy(p, &bits, sizeof(bits));
  } else if constexpr (std::is_same_v<T, bf16>) {
    p->bits = std::uint16_t(bf16_bits(x));
  } else if constexpr (kIsFloat8<T>) {
    p->bits = std::uint8_t(f8_bits<T>(x));
  } else {
    std::memcpy(p, &x, sizeof(T));
  }
}

// ---- contiguous lanes

template <class T>
RT_INLINE Vec<ValueT<T>> load(const T* p, All = {}) {
  if constexpr (kIsFloat8<T>) {
    return f8_value<T>(load(reinterpret_cast<const std::int8_t*>(p)));
  } else {
    Vec<ValueT<T>> v;
    RT_UNROLL for (int i = 0; i < kRegs<ValueT<T>>; ++i) {
      const T* q = p + i * kLanes<ValueT<T>>;
      if constexpr (std::is_same_v<T, f16>) {
        v.r[i] = from_f16(hn::LoadU(HalfTag(), q));
      } else if constexpr (std::is_same_v<T, bf16>) {
        v.r[i] = from_bf16(hn::LoadU(Bits16Tag(), reinterpret_cast<const std::uint16_t*>(q)));
      } else {
        v.r[i] = hn::LoadU(Tag<T>(), q);
      }
    }
    return v;
  }
}

// Whether this instruction set masks loads and stores of such elements itself.
template <class T>
inline constexpr bool kMaskedAccess = HWY_TARGET <= HWY_AVX3&& HWY_ARCH_X86;

template <class T, class Active>
RT_INLINE Vec<ValueT<T>> load_masked(const T* p, Active active) {
  using V = ValueT<T>;
  if constexpr (kIsFloat8<T>) {
    return f8_value<T>(load_masked(reinterpret_cast<const std::int8_t*>(p), active));
  } else if constexpr (kMaskedAccess<T>) {
    const std::uint32_t bits = to_bits(lanes(active));
    Vec<V> v;
    RT_UNROLL for (int i = 0; i < kRegs<V>; ++i) {
      const T* q = p + i * kLanes<V>;
      if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) {
        const Bits16Tag d;
        std::uint64_t part = bits >> (i * kLanes<V>);
        const auto m = hn::LoadMaskBits(d, reinterpret_cast<const std::uint8_t*>(&part));
        const auto raw = hn::MaskedLoad(m, d, reinterpret_cast<const std::uint16_t*>(q));
        if constexpr (std::is_same_v<T, f16>) {
          v.r[i] = from_f16(hn::BitCast(HalfTag(), raw));
        } else {
          v.r[i] = from_bf16(raw);
        }
      } else {
        v.r[i] = hn::MaskedLoad(bits_part<T>(bits, i), Tag<T>(), q);
      }
    }
    return v;
  } else if constexpr (std::is_same_v<Active, FirstN>) {
    alignas(64) T part[kVec] = {};
    const std::int64_t n = active.n < 0 ? 0 : active.n > kVec ? kVec : active.n;
    for (std::int64_t i = 0; i < n; ++i) part[i] = p[i];
    return load(part);
  } else {
    alignas(64) T part[kVec] = {};
    const std::uint32_t bits = to_bits(active);
    for (int i = 0; i < kVec; ++i)
      if (bits >> i & 1) part[i] = p[i];
    return load(part);
  }
}
template <class T>
RT_INLINE Vec<ValueT<T>> load(const T* p, FirstN active) {
  return load_masked(p, active);
}
template <class T>
RT_INLINE Vec<ValueT<T>> load(const T* p, const Mask& active) {
  return load_masked(p, active);
}
// Lanes that are off hold `other`.
template <class T>
RT_INLINE Vec<ValueT<T>> load(const T* p, All, const Vec<ValueT<T>>&) {
  return load(p);
}
template <class T>
RT_INLINE Vec<ValueT<T>> load(const T* p, FirstN active, const Vec<ValueT<T>>& other) {
  return select(lanes(active), load_masked(p, active), other);
}
template <class T>
RT_INLINE Vec<ValueT<T>> load(const T* p, const Mask& active, const Vec<ValueT<T>>& other) {
  return select(active, load_masked(p, active), other);
}

template <class T>
RT_INLINE void store(T* p, const Vec<ValueT<T>>& v, All = {}) {
  if constexpr (kIsFloat8<T>) {
    store(reinterpret_cast<std::int8_t*>(p), f8_bits<T>(v));
  } else {
    RT_UNROLL for (int i = 0; i < kRegs<ValueT<T>>; ++i) {
      T* q = p + i * kLanes<ValueT<T>>;
      if constexpr (std::is_same_v<T, f16>) {
        hn::StoreU(to_f16(v.r[i]), HalfTag(), q);
      } else if constexpr (std::is_same_v<T, bf16>) {
        hn::StoreU(to_bf16(v.r[i]), Bits16Tag(), reinterpret_cast<std::uint16_t*>(q));
      } else {
        hn::StoreU(v.r[i], Tag<T>(), q);
      }
    }
  }
}
template <class T, class Active>
RT_INLINE void store_masked(T* p, const Vec<ValueT<T>>& v, Active active) {
  using V = ValueT<T>;
  if constexpr (kIsFloat8<T>) {
    store_masked(reinterpret_cast<std::int8_t*>(p), f8_bits<T>(v), active);
  } else if constexpr (kMaskedAccess<T>) {
    const std::uint32_t bits = to_bits(lanes(active));
    RT_UNROLL for (int i = 0; i < kRegs<V>; ++i) {
      T* q = p + i * kLanes<V>;
      if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) {
        const Bits16Tag d;
        std::uint64_t part = bits >> (i * kLanes<V>);
        const auto m = hn::LoadMaskBits(d, reinterpret_cast<const std::uint8_t*>(&part));
        if constexpr (std::is_same_v<T, f16>) {
          hn::BlendedStore(hn::BitCast(d, to_f16(v.r[i])), m, d,
                           reinterpret_cast<std::uint16_t*>(q));
        } else {
          hn::BlendedStore(to_bf16(v.r[i]), m, d, reinterpret_cast<std::uint16_t*>(q));
        }
      } else {
        hn::BlendedStore(v.r[i], bits_part<T>(bits, i), Tag<T>(), q);
      }
    }
  } else {
    alignas(64) T part[kVec];
    store(part, v);
    if constexpr (std::is_same_v<Active, FirstN>) {
      const std::int64_t n = active.n < 0 ? 0 : active.n > kVec ? kVec : active.n;
      for (std::int64_t i = 0; i < n; ++i) p[i] = part[i];
    } else {
      const std::uint32_t bits = to_bits(active);
      for (int i = 0; i < kVec; ++i)
        if (bits >> i & 1) p[i] = part[i];
    }
  }
}
template <class T>
RT_INLINE void store(T* p, const Vec<ValueT<T>>& v, FirstN active) {
  store_masked(p, v, active);
}
template <class T>
RT_INLINE void store(T* p, const Vec<ValueT<T>>& v, const Mask& active) {
  store_masked(p, v, active);
}

// Booleans: a byte each.
template <class Active = All>
RT_INLINE void store(std::int8_t* p, const Mask& v, Active active = {}) {
  store(p, mask_bytes(v), active);
}

// For streams that are read once: a line 4 KB ahead of p, beyond what the hardware prefetcher
// covers.
template <class T>
RT_INLINE void prefetch_ahead(const T* p) {
  hwy::Prefetch(reinterpret_cast<const char*>(p) + 4096);
}

// ---- lanes at a stride, or anywhere

template <class T, class Active>
RT_INLINE Vec<ValueT<T>> load_strided(const T* p, std::int64_t stride, Active active) {
  alignas(64) T part[kVec] = {};
  const std::uint32_t bits = to_bits(lanes(active));
  for (int i = 0; i < kVec; ++i)
    if (bits >> i & 1) part[i] = p[i * stride];
  return load(part);
}
template <class T, class Active>
RT_INLINE Vec<ValueT<T>> load_strided(const T* p, std::int64_t stride, Active active,
                                      const Vec<ValueT<T>>& other) {
  return select(lanes(active), load_strided(p, stride, active), other);
}
template <class T, class Active>
RT_INLINE void store_strided(T* p, std::int64_t stride, const Vec<ValueT<T>>& v, Active active) {
  alignas(64) T part[kVec];
  store(part, v);
  const std::uint32_t bits = to_bits(lanes(active));
  for (int i = 0; i < kVec; ++i)
    if (bits >> i & 1) p[i * stride] = part[i];
}

// `address` holds byte addresses.
template <class T, class Active>
RT_INLINE Vec<ValueT<T>> gather(const Vec<std::int64_t>& address, Active active) {
  alignas(64) std::int64_t at[kVec];
  alignas(64) T part[kVec] = {};
  to_array(address, at);
  const std::uint32_t bits = to_bits(lanes(active));
  for (int i = 0; i < kVec; ++i)
    if (bits >> i & 1) part[i] = *reinterpret_cast<const T*>(at[i]);
  return load(part);
}
template <class T, class Active>
RT_INLINE Vec<ValueT<T>> gather(const Vec<std::int64_t>& address, Active active,
                                const Vec<ValueT<T>>& other) {
  return select(lanes(active), gather<T>(address, active), other);
}
template <class T, class Active>
RT_INLINE void scatter(const Vec<std::int64_t>& address, const Vec<ValueT<T>>& v, Active active) {
  alignas(64) std::int64_t at[kVec];
  alignas(64) T part[kVec];
  to_array(address, at);
  store(part, v);
  const std::uint32_t bits = to_bits(lanes(active));
  for (int i = 0; i < kVec; ++i)
    if (bits >> i & 1) *reinterpret_cast<T*>(at[i]) = part[i];
}

// ---- waiting for what another thread writes

// Once a look at it; who is waited for may need this processor.
RT_INLINE void give_way(std::uint32_t& n_looks) {
  constexpr std::uint32_t kLooksBetween = 64;
  hwy::Pause();
  if (++n_looks % kLooksBetween == 0) ::sched_yield();
}

// ---- atomics: `op` makes the new value of the old; the old one is returned

template <class T, class F>
RT_INLINE ValueT<T> atomic_update(T* p, F op) {
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;
  auto* word = reinterpret_cast<Bits*>(p);
  Bits old = __atomic_load_n(word, __ATOMIC_RELAXED);
  for (;;) {
    T old_element, new_element;
    std::memcpy(&old_element, &old, sizeof(T));
    const ValueT<T> value = load_scalar(&old_element);
    store_scalar(&new_element, op(value));
    Bits next;
    std::memcpy(&next, &new_element, sizeof(T));
    if (__atomic_compare_exchange_n(word, &old, next, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
      return value;
  }
}
template <class T, class F, class Active>
RT_INLINE Vec<ValueT<T>> atomic_update(const Vec<std::int64_t>& address, const Vec<ValueT<T>>& v,
                                       F op, Active active) {
  alignas(64) std::int64_t at[kVec];
  alignas(64) ValueT<T> in[kVec];
  alignas(64) ValueT<T> out[kVec] = {};
  to_array(address, at);
  to_array(v, in);
  const std::uint32_t bits = to_bits(lanes(active));
  for (int i = 0; i < kVec; ++i)
    if (bits >> i & 1)
      out[i] =
          atomic_update(reinterpret_cast<T*>(at[i]), [&](ValueT<T> old) { return op(old, in[i]); });
  return from_array(out);
}

// Compare and swap: the old value; `bits` are compared, so that NaN and -0 are themselves.
template <class T>
RT_INLINE ValueT<T> atomic_cas(T* p, ValueT<T> compare, ValueT<T> value) {
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;
  T element;
  Bits old, next;
  store_scalar(&element, compare);
  std::memcpy(&old, &element, sizeof(T));
  store_scalar(&element, value);
  std::memcpy(&next, &element, sizeof(T));
  __atomic_compare_exchange_n(reinterpret_cast<Bits*>(p), &old, next, false, __ATOMIC_ACQ_REL,
                              __ATOMIC_ACQUIRE);
  std::memcpy(&element, &old, sizeof(T));
  return load_scalar(&element);
}
template <class T, class Active>
RT_INLINE Vec<ValueT<T>> atomic_cas(const Vec<std::int64_t>& address, const Vec<ValueT<T>>& compare,
                                    const Vec<ValueT<T>>& value, Active active) {
  alignas(64) std::int64_t at[kVec];
  alignas(64) ValueT<T> from[kVec], to[kVec];
  alignas(64) ValueT<T> out[kVec] = {};
  to_array(address, at);
  to_array(compare, from);
  to_array(value, to);
  const std::uint32_t bits = to_bits(lanes(active));
  for (int i = 0; i < kVec; ++i)
    if (bits >> i & 1) out[i] = atomic_cas(reinterpret_cast<T*>(at[i]), from[i], to[i]);
  return from_array(out);
}

}  // namespace nereid::rt
