// Runs MLX's Metal kernels affine_quantize, fp_quantize and fp_dequantize, with the text of the
// installed mlx, as C++. For metal_test.go, which extracts them from MLX's headers into
// mlx_affine.h and mlx_fp.h.
//
//     c++ -std=c++20 -O1 -ffp-contract=off -I DIR-OF-CUTS -o kernels kernels.cpp
//     echo "INPUT BF16 affine 4 64" | kernels DIR
//
// reads DIR/INPUT, little-endian elements, and writes DIR/INPUT.affine.4.64.metal.codes and so on,
// as quantize.py does.
//
// The 32 threads of a SIMD group run one after another, repeatedly: each stops at the first
// collective operation whose result is not known yet, and leaves its operand. Once all have done
// so, the results are known. This works because kernels are pure.
#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#define device
#define constant
#define thread

using half = _Float16;
using float16_t = half;
using uint = uint32_t;
using ushort = uint16_t;
struct uint2 { uint x, y; };

template <class To, class From> To as_type(From f) {
  static_assert(sizeof(To) == sizeof(From));
  To t;
  std::memcpy(&t, &f, sizeof t);
  return t;
}

struct bfloat { // to nearest, ties to even, as Metal's
  uint16_t bits;
  bfloat() = default;
  explicit bfloat(float f) {
    auto u = as_type<uint32_t>(f);
    bits = f != f ? 0x7FC0 : (u + 0x7FFF + (u >> 16 & 1)) >> 16;
  }
  explicit bfloat(half h) : bfloat(float(h)) {}
  operator float() const { return as_type<float>(uint32_t(bits) << 16); }
};
using bfloat16_t = bfloat;

namespace simd {
struct Words { uint32_t w[32]; };
int lane;
size_t at;
std::vector<Words> known;
Words operands;
std::function<void()> resolve; // operands to the next of known
jmp_buf stop;

template <class T, class F> T collective(T v, F f) {
  if (at < known.size()) return as_type<T>(known[at++].w[lane]);
  operands.w[lane] = as_type<uint32_t>(v);
  if (lane == 0) resolve = f;
  longjmp(stop, 1);
}

template <class F> float reduce(float v, F f) {
  return collective(v, [f] {
    float r = as_type<float>(operands.w[0]);
    for (int i = 1; i < 32; i++) r = f(r, as_type<float>(operands.w[i]));
    Words k;
    for (auto& w : k.w) w = as_type<uint32_t>(r);
    known.push_back(k);
  });
}

void run(const std::function<void(int)>& kernel) {
  known.clear();
  for (volatile bool stopped = true; stopped;) {
    stopped = false;
    for (lane = 0; lane < 32; lane++) {
      at = 0;
      if (setjmp(stop) == 0) kernel(lane);
      else stopped = true;
    }
    if (stopped) resolve();
  }
}
} // namespace simd

namespace metal {
using std::isfinite, std::isnan, std::signbit, std::log2, std::round;
template <bool b, class T, class F> using conditional_t = std::conditional_t<b, T, F>;
inline float abs(float x) { return std::fabs(x); }
inline float min(float a, float b) { return b < a ? b : a; }
inline float max(float a, float b) { return a < b ? b : a; }
inline float simd_min(float v) { return simd::reduce(v, [](float a, float b) { return min(a, b); }); }
inline float simd_max(float v) { return simd::reduce(v, [](float a, float b) { return max(a, b); }); }
inline uint8_t simd_shuffle_down(uint8_t v, int n) {
  return uint8_t(simd::collective(uint32_t(v), [n] {
    simd::Words k = simd::operands;
    for (int i = 0; i + n < 32; i++) k.w[i] = simd::operands.w[i + n];
    simd::known.push_back(k);
  }));
}
} // namespace metal

template <class T> struct Limits { static constexpr float max = std::numeric_limits<float>::infinity(); };

namespace mlx {
// Named one by one, they hide what C's headers declare globally: Apple's library has abs for float
// there, GCC's does not.
using metal::abs, metal::isfinite, metal::isnan, metal::log2, metal::max, metal::min, metal::round, metal::signbit;
using metal::conditional_t, metal::simd_max, metal::simd_min, metal::simd_shuffle_down;
#include "mlx_fp.h"
namespace affine {
#include "mlx_affine.h"
}
} // namespace mlx
using namespace mlx;

using Bytes = std::vector<uint8_t>;
struct Out { Bytes codes, scales, biases, values; };

template <class T, int gs, int bits> Out affine_run(const Bytes& in) {
  size_t n = in.size() / sizeof(T), per = gs / 32;
  Out o{Bytes(n * bits / 8), Bytes(n / gs * sizeof(T)), Bytes(n / gs * sizeof(T)), {}};
  uint2 grid{uint(n / per), 1};
  for (uint g = 0; g < n / gs; g++)
    simd::run([&](int lane) {
      affine::affine_quantize<T, gs, bits>((const T*)in.data(), o.codes.data(), (T*)o.scales.data(), (T*)o.biases.data(), uint2{g * 32 + uint(lane), 0}, grid);
    });
  return o;
}

template <class T, int gs, int bits> Out fp_run(const Bytes& in) {
  size_t n = in.size() / sizeof(T);
  Out o{Bytes(n * bits / 8), Bytes(n / gs), {}, Bytes(in.size())};
  for (uint g = 0; g < n / 32; g++)
    simd::run([&](int lane) {
      fp_quantize<T, gs, bits, false>((const T*)in.data(), o.codes.data(), o.scales.data(), nullptr, uint2{g * 32 + uint(lane), 0}, uint2{uint(n), 1}, lane);
    });
  for (uint i = 0; i < o.codes.size(); i++)
    fp_dequantize<T, gs, bits, false>(o.codes.data(), o.scales.data(), nullptr, (T*)o.values.data(), uint2{i, 0}, uint2{uint(o.codes.size()), 1});
  return o;
}

using Run = Out (*)(const Bytes&);

template <class T, int gs> void add_affine(std::map<std::string, Run>& m, std::string type) {
  auto name = [&](int bits) { return type + " affine " + std::to_string(bits) + " " + std::to_string(gs); };
  m[name(1)] = affine_run<T, gs, 1>;
  m[name(2)] = affine_run<T, gs, 2>;
  m[name(3)] = affine_run<T, gs, 3>;
  m[name(4)] = affine_run<T, gs, 4>;
  m[name(5)] = affine_run<T, gs, 5>;
  m[name(6)] = affine_run<T, gs, 6>;
  m[name(8)] = affine_run<T, gs, 8>;
}

template <class T> void add(std::map<std::string, Run>& m, std::string type) {
  add_affine<T, 32>(m, type);
  add_affine<T, 64>(m, type);
  add_affine<T, 128>(m, type);
  m[type + " mxfp4 4 32"] = fp_run<T, 32, 4>;
  m[type + " mxfp8 8 32"] = fp_run<T, 32, 8>;
  m[type + " nvfp4 4 16"] = fp_run<T, 16, 4>;
}

int main(int, char** argv) {
  std::map<std::string, Run> runs;
  add<bfloat>(runs, "BF16");
  add<half>(runs, "F16");
  add<float>(runs, "F32");
  std::string input, type, mode, bits, gs;
  while (std::cin >> input >> type >> mode >> bits >> gs) {
    std::ifstream f(std::string(argv[1]) + "/" + input, std::ios::binary);
    Bytes in((std::istreambuf_iterator<char>(f)), {});
    Out o = runs.at(type + " " + mode + " " + bits + " " + gs)(in);
    auto save = [&](const char* part, const Bytes& b) {
      std::ofstream(std::string(argv[1]) + "/" + input + "." + mode + "." + bits + "." + gs + ".metal." + part, std::ios::binary).write((const char*)b.data(), b.size());
    };
    save("codes", o.codes), save("scales", o.scales), save("biases", o.biases), save("values", o.values);
  }
}
