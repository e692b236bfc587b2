// The loops of the sparse path in C++: rows side by side over OpenMP's threads, every sum in a fixed order, so that a
// result depends neither on the run nor on the number of threads. Called by sae/kernels/cpu.py through ctypes.
//
// A pair is (token, latent); pairs lie in the order of tokens and `starts` bounds those of each token.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __AVX__
#include <immintrin.h>
#endif

namespace {

using i64 = int64_t;
using u64 = uint64_t;

struct bfloat16 {
    uint16_t bits;
};

// As many numbers at once as a register of the processor holds.
#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t masks __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t words __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2)));

inline float number(float x) { return x; }
inline float number(bfloat16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// A finite number in half precision: its exponent is moved by a product, which brings subnormal ones as well.
struct float16 {
    uint16_t bits;
};
inline float number(float16 x) {
    const uint32_t size = uint32_t(x.bits & 0x7fffu) << 13;
    float value;
    std::memcpy(&value, &size, 4);
    value *= 0x1p112f;
    return x.bits & 0x8000u ? -value : value;
}

inline lanes load(const float* x) { return *reinterpret_cast<const lanes*>(x); }
inline lanes load(const bfloat16* x) {
    const halves raw = *reinterpret_cast<const halves*>(x);
    const words bits = __builtin_convertvector(raw, words) << 16;
    lanes values;
    std::memcpy(&values, &bits, sizeof values);
    return values;
}

// A whole number that is the larger the larger the value, and of equal values the lower the latent; NaN is the largest.
inline u64 key(float value, i64 latent) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (value != value) bits = 0x7fffffffu;
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return u64(bits) << 32 | uint32_t(~uint32_t(latent));
}

inline float value_of(u64 key) {
    uint32_t bits = uint32_t(key >> 32);
    bits = bits & 0x80000000u ? bits & 0x7fffffffu : ~bits;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline i64 latent_of(u64 key) { return i64(uint32_t(~uint32_t(key))); }

// The largest of each lane of `span` vectors; what is no number is left out. Four at a time, which do not wait for each other.
template <class T>
inline lanes largest(const T* row, const float* bias, i64 span) {
    lanes best[4];
    for (lanes& b : best) b = lanes{} - INFINITY;
    const auto look = [&](i64 i, int k) {
        const lanes h = load(row + i * LANES) + load(bias + i * LANES);
        best[k] = h > best[k] ? h : best[k];
    };
    i64 i = 0;
    for (; i + 4 <= span; i += 4)
        for (int k = 0; k < 4; k++) look(i + k, k);
    for (; i < span; i++) look(i, 0);
    for (int k = 1; k < 4; k++) best[0] = best[k] > best[0] ? best[k] : best[0];
    return best[0];
}

inline bool any(const masks& found) {
    u64 parts[LANES / 2], one = 0;
    std::memcpy(parts, &found, sizeof found);
    for (u64 part : parts) one |= part;
    return one;
}

// Every latent of a row that is not below `least`, what is no number among them.
template <class T>
inline void collect(const T* row, const float* bias, i64 d_sae, float least, std::vector<u64>& found) {
    for (i64 from = 0; from < d_sae; from += LANES) {
        const i64 to = std::min(from + LANES, d_sae);
        if (to - from == LANES && !any(~(load(row + from) + load(bias + from) < least))) continue;
        for (i64 i = from; i < to; i++) {
            const float h = number(row[i]) + bias[i];
            if (!(h < least)) found.push_back(key(h, i));
        }
    }
}

// The k largest of each row in descending order. A group is a lane of `span` vectors. At least k latents reach the k-th
// largest of the groups' maxima, and little more than k where there are four times as many groups.
template <class T>
void select(const T* pre, const float* bias, i64 n, i64 d_sae, i64 k, float* values, i64* indices, int n_threads) {
    const i64 n_vectors = d_sae / LANES, span = std::max(i64(1), std::min(n_vectors, d_sae / (4 * k)));
    const i64 n_groups = n_vectors / span * LANES;
#pragma omp parallel num_threads(n_threads)
    {
        std::vector<float> maxima(n_groups);
        std::vector<u64> found;
#pragma omp for schedule(static)
        for (i64 t = 0; t < n; t++) {
            const T* row = pre + t * d_sae;
            float least = -INFINITY;
            if (n_groups >= k) {
                for (i64 from = 0; from < n_groups; from += LANES) {
                    const lanes best = largest(row + from * span, bias + from * span, span);
                    std::memcpy(maxima.data() + from, &best, sizeof best);
                }
                std::nth_element(maxima.begin(), maxima.begin() + (k - 1), maxima.end(), std::greater<float>());
                least = maxima[k - 1];
            }
            found.clear();
            collect(row, bias, d_sae, least, found);
            if (i64(found.size()) > k)
                std::nth_element(found.begin(), found.begin() + (k - 1), found.end(), std::greater<u64>());
            std::sort(found.begin(), found.begin() + k, std::greater<u64>());
            for (i64 j = 0; j < k; j++) {
                values[t * k + j] = value_of(found[j]);
                indices[t * k + j] = latent_of(found[j]);
            }
        }
    }
}

inline void add_scaled(float* __restrict sum, const float* __restrict row, float weight, i64 d) {
#pragma omp simd
    for (i64 i = 0; i < d; i++) sum[i] += weight * row[i];
}

// Four rows at a time: the sum is read and written once for them.
template <class Index>
inline void weighted_sum(float* __restrict sum, const float* rows, const Index* which, const float* weights, i64 n, i64 d) {
    std::fill(sum, sum + d, 0.f);
    i64 j = 0;
    for (; j + 4 <= n; j += 4) {
        const float *r0 = rows + which[j] * d, *r1 = rows + which[j + 1] * d;
        const float *r2 = rows + which[j + 2] * d, *r3 = rows + which[j + 3] * d;
        const float w0 = weights[j], w1 = weights[j + 1], w2 = weights[j + 2], w3 = weights[j + 3];
#pragma omp simd
        for (i64 i = 0; i < d; i++) sum[i] += (w0 * r0[i] + w1 * r1[i]) + (w2 * r2[i] + w3 * r3[i]);
    }
    for (; j < n; j++) add_scaled(sum, rows + which[j] * d, weights[j], d);
}

// How many latents of each row lie above their threshold; what is no number does.
template <class T>
void count_above(const T* pre, const float* bias, const float* floor, i64 n, i64 d_sae, i64* counts, int n_threads) {
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (i64 t = 0; t < n; t++) {
        const T* row = pre + t * d_sae;
        masks found = {};
        i64 i = 0;
        for (; i + LANES <= d_sae; i += LANES) found -= ~(load(row + i) + load(bias + i) <= load(floor + i));
        int32_t count = 0;
        for (int lane = 0; lane < LANES; lane++) count += found[lane];
        for (; i < d_sae; i++) count += !(number(row[i]) + bias[i] <= floor[i]);
        counts[t] = count;
    }
}

// Those latents and their values, ascending, row after row; `starts` says where each row begins.
template <class T>
void fill_above(const T* pre, const float* bias, const float* floor, i64 n, i64 d_sae, const i64* starts, float* values,
                i64* indices, int n_threads) {
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (i64 t = 0; t < n; t++) {
        const T* row = pre + t * d_sae;
        i64 place = starts[t];
        const i64 end = starts[t + 1];
        for (i64 from = 0; from < d_sae && place < end; from += LANES) {
            const i64 to = std::min(from + LANES, d_sae);
            if (to - from == LANES) {
                if (!any(~(load(row + from) + load(bias + from) <= load(floor + from)))) continue;
            }
            for (i64 i = from; i < to; i++) {
                const float h = number(row[i]) + bias[i];
                if (!(h <= floor[i])) {
                    values[place] = h;
                    indices[place++] = i;
                }
            }
        }
    }
}

// Whether each value lies above its floor and not above its ceiling.
template <class T>
void mark(const T* pre, const float* bias, const float* floor, const float* ceiling, i64 n, i64 d_sae, uint8_t* marks,
          int n_threads) {
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (i64 t = 0; t < n; t++) {
        const T* row = pre + t * d_sae;
        uint8_t* out = marks + t * d_sae;
        i64 i = 0;
        for (; i + LANES <= d_sae; i += LANES) {
            const lanes h = load(row + i) + load(bias + i);
            const masks inside = (h > load(floor + i)) & (h <= load(ceiling + i));
            const bytes found = __builtin_convertvector(-inside, bytes);
            std::memcpy(out + i, &found, sizeof found);
        }
        for (; i < d_sae; i++) {
            const float h = number(row[i]) + bias[i];
            out[i] = h > floor[i] && h <= ceiling[i];
        }
    }
}

inline float total_of(lanes sums) {
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += sums[lane];
    return total;
}

// Two independent sums, since one addition waits for the one before.
inline float dot(const float* a, const float* b, i64 d) {
    lanes even = {}, odd = {};
    i64 i = 0;
    for (; i + 2 * LANES <= d; i += 2 * LANES) {
        even += load(a + i) * load(b + i);
        odd += load(a + i + LANES) * load(b + i + LANES);
    }
    float rest = 0;
    for (; i < d; i++) rest += a[i] * b[i];
    return total_of(even + odd) + rest;
}

// The octave of a row whose norm has this square: o from 2^(o + lowest) to twice that; shorter and longer ones in the ends.
inline i64 octave_of(double square, i64 n_octaves, i64 lowest) {
    if (!(square > 0)) return 0;
    int e;  // square lies in [2^(e-1), 2^e), so the whole part of log2 of its root is (e - 1) / 2, rounded down
    std::frexp(square, &e);
    return std::min(std::max((e - 1 - ((e - 1) & 1)) / 2 - lowest, i64(0)), n_octaves - 1);
}

// As many numbers in double precision as a register holds.
constexpr int WIDE = LANES / 2;
typedef double doubles __attribute__((vector_size(8 * WIDE), aligned(8)));
typedef float singles __attribute__((vector_size(4 * WIDE), aligned(4)));
typedef uint32_t single_bits __attribute__((vector_size(4 * WIDE), aligned(4)));
typedef uint16_t half_bits __attribute__((vector_size(2 * WIDE), aligned(2)));

inline singles bits_as_singles(single_bits bits) {
    singles values;
    std::memcpy(&values, &bits, sizeof values);
    return values;
}
inline singles few(const float* x) { return *reinterpret_cast<const singles*>(x); }
inline singles few(const bfloat16* x) {
    return bits_as_singles(__builtin_convertvector(*reinterpret_cast<const half_bits*>(x), single_bits) << 16);
}
inline singles few(const float16* x) {
#if defined(__F16C__) && !defined(__AVX512F__)
    return singles(_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x))));
#else
    singles values;
    for (int i = 0; i < WIDE; i++) values[i] = number(x[i]);
    return values;
#endif
}
template <class T>
inline doubles wide(const T* x) {
#if defined(__AVX__) && !defined(__AVX512F__)  // one instruction, which compilers do not find
    return doubles(_mm256_cvtps_pd(__m128(few(x))));
#else
    return __builtin_convertvector(few(x), doubles);
#endif
}
inline void add(double* to, doubles sum) { *reinterpret_cast<doubles*>(to) += sum; }

template <class T>
double square_of(const T* x, i64 d) {
    doubles sums[4] = {};
    i64 i = 0;
    for (; i + 4 * WIDE <= d; i += 4 * WIDE)
        for (int k = 0; k < 4; k++) {
            const doubles value = wide(x + i + k * WIDE);
            sums[k] += value * value;
        }
    double square = 0;
    for (; i < d; i++) square += double(number(x[i])) * double(number(x[i]));
    const doubles all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (int k = 0; k < WIDE; k++) square += all[k];
    return square;
}

// Sums over a group of rows: total, group += Σ x; squares += Σ x². A strip of columns is added up in registers.
template <class T>
void sum_group(const T* const* rows, i64 n, i64 d, double* total, double* squares, double* group) {
    constexpr int STRIP = 4;
    i64 i = 0;
    for (; i + STRIP * WIDE <= d; i += STRIP * WIDE) {
        doubles sum[STRIP] = {}, square[STRIP] = {};
        for (i64 r = 0; r < n; r++)
            for (int k = 0; k < STRIP; k++) {
                const doubles value = wide(rows[r] + i + k * WIDE);
                sum[k] += value, square[k] += value * value;
            }
        for (int k = 0; k < STRIP; k++) {
            add(group + i + k * WIDE, sum[k]), add(total + i + k * WIDE, sum[k]);
            add(squares + i + k * WIDE, square[k]);
        }
    }
    for (; i < d; i++)
        for (i64 r = 0; r < n; r++) {
            const double value = number(rows[r][i]);
            group[i] += value, total[i] += value, squares[i] += value * value;
        }
}

// Sums over rows in float64: out[row] = Σ x²; total += Σ x; squares += Σ x²; and rows are added to their octave's: block by
// block, which stays in the cache meanwhile, and in a block octave by octave.
template <class T>
void sum_rows(const T* x, i64 n, i64 d, double* total, double* squares, double* octaves, i64 n_octaves, i64 lowest, double* out) {
    constexpr i64 BLOCK = 16;
    for (i64 first = 0; first < n; first += BLOCK) {
        const i64 m = std::min(BLOCK, n - first);
        i64 octave[BLOCK], lowest_here = n_octaves, highest_here = 0;
        for (i64 r = 0; r < m; r++) {
            out[first + r] = square_of(x + (first + r) * d, d);
            octave[r] = octave_of(out[first + r], n_octaves, lowest);
            lowest_here = std::min(lowest_here, octave[r]), highest_here = std::max(highest_here, octave[r]);
        }
        for (i64 o = lowest_here; o <= highest_here; o++) {
            const T* rows[BLOCK];
            i64 count = 0;
            for (i64 r = 0; r < m; r++)
                if (octave[r] == o) rows[count++] = x + (first + r) * d;
            if (count) sum_group(rows, count, d, total, squares, octaves + o * d);
        }
    }
}

// 32 bits for a place and a step, and a moment as it is kept: in bfloat16 rounded up or down by 16 of them
// (sae/kernels/rounding.py).
inline uint32_t hash_of(uint32_t place, uint32_t step) {
    uint32_t h = place * 0x9E3779B1u + step * 0x85EBCA77u;
    h = (h ^ (h >> 15)) * 0x2C1B3C6Du;
    h = (h ^ (h >> 12)) * 0x297A2D39u;
    return h ^ (h >> 15);
}
inline void keep(float& kept, float x, uint32_t) { kept = x; }
inline void keep(bfloat16& kept, float x, uint32_t below) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    kept.bits = uint16_t((bits + below) >> 16);
}

// Adam on every row, its gradient times `scale` first; the row is brought back to unit norm where `unit` says so.
template <class M>
void adam(float* parameter, const float* gradient, M* mean, M* square, i64 n, i64 d, float scale, float rate, float beta1,
          float beta2, float correction, float epsilon, int unit, uint32_t step, int n_threads) {
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (i64 f = 0; f < n; f++) {
        float* __restrict p = parameter + f * d;
        M* __restrict m = mean + f * d;
        M* __restrict v = square + f * d;
        const float* __restrict g = gradient + f * d;
        const uint32_t first = uint32_t(f * d);
        float norm = 0;
#pragma omp simd reduction(+ : norm)
        for (i64 i = 0; i < d; i++) {
            const float gi = g[i] * scale, before = number(m[i]);
            const float mi = before + (1 - beta1) * (gi - before);
            const float vi = beta2 * number(v[i]) + (1 - beta2) * gi * gi;
            const uint32_t h = hash_of(first + uint32_t(i), step);
            keep(m[i], mi, h & 0xffffu);
            keep(v[i], vi, h >> 16);
            p[i] -= rate * mi / (std::sqrt(vi) * correction + epsilon);
            norm += p[i] * p[i];
        }
        if (!unit) continue;
        const float inverse = 1 / std::max(std::sqrt(norm), 1.17549435e-38f);
#pragma omp simd
        for (i64 i = 0; i < d; i++) p[i] *= inverse;
    }
}

}  // namespace

extern "C" {

void select_float32(const float* pre, const float* bias, i64 n, i64 d_sae, i64 k, float* values, i64* indices, int n_threads) {
    select(pre, bias, n, d_sae, k, values, indices, n_threads);
}

void select_bfloat16(const void* pre, const float* bias, i64 n, i64 d_sae, i64 k, float* values, i64* indices, int n_threads) {
    select(static_cast<const bfloat16*>(pre), bias, n, d_sae, k, values, indices, n_threads);
}

// Exact values of latents that were chosen otherwise, and their descending order: x[token] · rows[latent] + bias.
void refine(const float* x, const float* rows, const float* bias, i64 n, i64 d, i64 k, float* values, i64* indices, int n_threads) {
#pragma omp parallel num_threads(n_threads)
    {
        std::vector<u64> keys(k);
#pragma omp for schedule(static)
        for (i64 t = 0; t < n; t++) {
            for (i64 j = 0; j < k; j++) {
                const i64 latent = indices[t * k + j];
                keys[j] = key(dot(x + t * d, rows + latent * d, d) + bias[latent], latent);
            }
            std::sort(keys.begin(), keys.end(), std::greater<u64>());
            for (i64 j = 0; j < k; j++) {
                values[t * k + j] = value_of(keys[j]);
                indices[t * k + j] = latent_of(keys[j]);
            }
        }
    }
}

void count_above_float32(const float* pre, const float* bias, const float* floor, i64 n, i64 d_sae, i64* counts, int n_threads) {
    count_above(pre, bias, floor, n, d_sae, counts, n_threads);
}

void count_above_bfloat16(const void* pre, const float* bias, const float* floor, i64 n, i64 d_sae, i64* counts, int n_threads) {
    count_above(static_cast<const bfloat16*>(pre), bias, floor, n, d_sae, counts, n_threads);
}

void fill_above_float32(const float* pre, const float* bias, const float* floor, i64 n, i64 d_sae, const i64* starts,
                        float* values, i64* indices, int n_threads) {
    fill_above(pre, bias, floor, n, d_sae, starts, values, indices, n_threads);
}

void fill_above_bfloat16(const void* pre, const float* bias, const float* floor, i64 n, i64 d_sae, const i64* starts,
                         float* values, i64* indices, int n_threads) {
    fill_above(static_cast<const bfloat16*>(pre), bias, floor, n, d_sae, starts, values, indices, n_threads);
}

void mark_float32(const float* pre, const float* bias, const float* floor, const float* ceiling, i64 n, i64 d_sae,
                  uint8_t* marks, int n_threads) {
    mark(pre, bias, floor, ceiling, n, d_sae, marks, n_threads);
}

void mark_bfloat16(const void* pre, const float* bias, const float* floor, const float* ceiling, i64 n, i64 d_sae,
                   uint8_t* marks, int n_threads) {
    mark(static_cast<const bfloat16*>(pre), bias, floor, ceiling, n, d_sae, marks, n_threads);
}

// sums[latent] += Σ over its marked tokens of block[token, latent]; a thread has some latents and goes through the tokens
void add_marked(const float* block, const uint8_t* marks, i64 n, i64 d_sae, float* sums, int n_threads) {
    constexpr i64 WIDE = 1024;
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (i64 from = 0; from < d_sae; from += WIDE) {
        const i64 m = std::min(WIDE, d_sae - from);
        float* __restrict total = sums + from;
        for (i64 t = 0; t < n; t++) {
            const float* __restrict x = block + t * d_sae + from;
            const uint8_t* __restrict marked = marks + t * d_sae + from;
#pragma omp simd
            for (i64 i = 0; i < m; i++) total[i] += marked[i] ? x[i] : 0.0f;
        }
    }
}

// out[token] = Σ over its pairs of weight · rows[latent]
void bag(const i64* indices, const i64* starts, const float* rows, const float* weights, i64 n, i64 d, float* out, int n_threads) {
#pragma omp parallel num_threads(n_threads)
    {
        std::vector<i64> which;
        std::vector<float> kept;
#pragma omp for schedule(dynamic, 32)
        for (i64 t = 0; t < n; t++) {
            which.clear();
            kept.clear();
            for (i64 p = starts[t]; p < starts[t + 1]; p++) {
                if (weights[p] == 0) continue;
                which.push_back(indices[p]);
                kept.push_back(weights[p]);
            }
            weighted_sum(out + t * d, rows, which.data(), kept.data(), i64(which.size()), d);
        }
    }
}

// out[pair] = block[token, latent]; the pairs are those of the block's rows, the first of which begins at starts[0]
void take(const float* block, const i64* indices, const i64* starts, i64 n, i64 d_sae, float* out, int n_threads) {
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (i64 t = 0; t < n; t++)
        for (i64 p = starts[t]; p < starts[t + 1]; p++) out[p] = block[t * d_sae + indices[p]];
}

// out[pair] = left[token] · rows[latent]
void dots(const float* left, const float* rows, const i64* indices, const i64* starts, i64 n, i64 d, float* out, int n_threads) {
#pragma omp parallel for schedule(dynamic, 32) num_threads(n_threads)
    for (i64 t = 0; t < n; t++)
        for (i64 p = starts[t]; p < starts[t + 1]; p++) out[p] = dot(left + t * d, rows + indices[p] * d, d);
}

// out[latent] = Σ over its pairs, tokens ascending, of weight · source[token]; total[latent] = Σ weight. Pairs of weight 0
// add nothing and are not looked at.
void sum_by_latent(const i64* indices, const i64* starts, const float* source, const float* weights, i64 n, i64 d, i64 d_sae,
                   float* out, float* total, int n_threads) {
    const i64 n_pairs = starts[n];
    std::vector<i64> bounds(d_sae + 1, 0);
    for (i64 p = 0; p < n_pairs; p++) bounds[indices[p] + 1] += weights[p] != 0;
    for (i64 f = 0; f < d_sae; f++) bounds[f + 1] += bounds[f];
    std::vector<int32_t> tokens(bounds[d_sae]);
    std::vector<float> grouped(bounds[d_sae]);
    std::vector<i64> place(bounds.begin(), bounds.end() - 1);
    for (i64 t = 0; t < n; t++)
        for (i64 p = starts[t]; p < starts[t + 1]; p++) {
            if (weights[p] == 0) continue;
            const i64 q = place[indices[p]]++;
            tokens[q] = int32_t(t);
            grouped[q] = weights[p];
        }
#pragma omp parallel for schedule(dynamic, 16) num_threads(n_threads)
    for (i64 f = 0; f < d_sae; f++) {
        const i64 from = bounds[f], count = bounds[f + 1] - from;
        if (out) weighted_sum(out + f * d, source, tokens.data() + from, grouped.data() + from, count, d);
        float sum = 0;
        for (i64 j = 0; j < count; j++) sum += grouped[from + j];
        total[f] = sum;
    }
}

// Σ gradient² of each row; where `rows` is given, of unit norm, the part of the gradient along them is removed first.
void squares(float* gradient, const float* rows, i64 n, i64 d, float* out, int n_threads) {
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (i64 f = 0; f < n; f++) {
        float* g = gradient + f * d;
        if (rows) add_scaled(g, rows + f * d, -dot(g, rows + f * d, d), d);
        out[f] = dot(g, g, d);
    }
}

void adam_float32(float* parameter, const float* gradient, float* mean, float* square, i64 n, i64 d, float scale, float rate,
                  float beta1, float beta2, float correction, float epsilon, int unit, int step, int n_threads) {
    adam(parameter, gradient, mean, square, n, d, scale, rate, beta1, beta2, correction, epsilon, unit, uint32_t(step), n_threads);
}

void adam_bfloat16(float* parameter, const float* gradient, bfloat16* mean, bfloat16* square, i64 n, i64 d, float scale,
                   float rate, float beta1, float beta2, float correction, float epsilon, int unit, int step, int n_threads) {
    adam(parameter, gradient, mean, square, n, d, scale, rate, beta1, beta2, correction, epsilon, unit, uint32_t(step), n_threads);
}

void sum_rows_float32(const float* x, i64 n, i64 d, double* total, double* squares, double* octaves, i64 n_octaves, i64 lowest,
                      double* out) {
    sum_rows(x, n, d, total, squares, octaves, n_octaves, lowest, out);
}
void sum_rows_bfloat16(const bfloat16* x, i64 n, i64 d, double* total, double* squares, double* octaves, i64 n_octaves,
                       i64 lowest, double* out) {
    sum_rows(x, n, d, total, squares, octaves, n_octaves, lowest, out);
}
void sum_rows_float16(const float16* x, i64 n, i64 d, double* total, double* squares, double* octaves, i64 n_octaves, i64 lowest,
                      double* out) {
    sum_rows(x, n, d, total, squares, octaves, n_octaves, lowest, out);
}

}  // extern "C"
