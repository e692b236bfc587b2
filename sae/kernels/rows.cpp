// Rows from a file into memory, and from memory into a batch. Called by sae/kernels/pieces.py and sae/kernels/gather.py
// through ctypes, which lets other threads of Python run meanwhile.

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
#ifdef __AVX__
#include <immintrin.h>
#endif

namespace {

using i64 = int64_t;

constexpr int ENDED = -1;  // the file, before its piece did

struct Piece {
    char* to;
    i64 n_bytes, place;
};

// What is in memory of a piece, without waiting for a disk.
inline i64 read_cached(int file, const Piece& piece) {
#ifdef RWF_NOWAIT
    iovec whole = {piece.to, size_t(piece.n_bytes)};
    return preadv2(file, &whole, 1, piece.place, RWF_NOWAIT);
#else
    errno = EAGAIN;
    return -1;
#endif
}

inline void announce(int file, const Piece& piece) {
#ifdef POSIX_FADV_WILLNEED
    posix_fadvise(file, piece.place, piece.n_bytes, POSIX_FADV_WILLNEED);
#endif
}

// 0, ENDED, or the system's error.
int read_whole(int file, Piece piece) {
    while (piece.n_bytes > 0) {
        const i64 got = pread(file, piece.to, size_t(piece.n_bytes), piece.place);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        if (got == 0) return ENDED;
        piece = {piece.to + got, piece.n_bytes - got, piece.place + got};
    }
    return 0;
}

// Pieces one after the other; one that is not in memory is announced, and read when `ahead` more bytes were.
int read_in_order(int file, const i64* places, const i64* ends, i64 first, i64 last, char* target, i64 ahead) {
    std::deque<Piece> late;
    i64 n_late = 0;
    for (i64 k = first; k < last; k++) {
        const i64 at = k ? ends[k - 1] : 0;
        Piece piece = {target + at, ends[k] - at, places[k]};
        const i64 got = read_cached(file, piece);
        if (got < 0 && errno != EAGAIN && errno != EOPNOTSUPP && errno != EINTR) return errno;
        if (got == piece.n_bytes) continue;
        if (got > 0) piece = {piece.to + got, piece.n_bytes - got, piece.place + got};
        announce(file, piece);
        late.push_back(piece);
        n_late += piece.n_bytes;
        while (n_late > ahead) {
            if (const int failed = read_whole(file, late.front())) return failed;
            n_late -= late.front().n_bytes;
            late.pop_front();
        }
    }
    for (const Piece& piece : late)
        if (const int failed = read_whole(file, piece)) return failed;
    return 0;
}

struct float16 {
    uint16_t bits;
};
struct bfloat16 {
    uint16_t bits;
};

inline float from_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline float number(bfloat16 x) { return from_bits(uint32_t(x.bits) << 16); }
inline float number(float16 x) {  // a product moves the exponent, of subnormal numbers too; what is not finite stays so
    const uint32_t size = x.bits & 0x7fffu, sign = uint32_t(x.bits & 0x8000u) << 16;
    uint32_t bits;
    const float moved = from_bits(size << 13) * 0x1p112f;
    std::memcpy(&bits, &moved, 4);
    return from_bits(sign | (size < 0x7c00u ? bits : 0x7f800000u | size << 13));
}

template <class T>
inline void widen(const T* x, i64 d, float* __restrict out) {
    for (i64 i = 0; i < d; i++) out[i] = number(x[i]);
}

// A batch is written past the cache where its rows lie so that this can be done: what is written would have to be fetched
// first, and throw out what a thread that fills the next buffer works on.
#ifdef __AVX__
inline bool past_cache(const void* out) { return reinterpret_cast<uintptr_t>(out) % 32 == 0; }
inline void copy_row(const char* row, i64 n_bytes, char* __restrict out) {
    i64 i = 0;
    if (past_cache(out))
        for (; i + 4 * 32 <= n_bytes; i += 4 * 32) {
            const __m256i* from = reinterpret_cast<const __m256i*>(row + i);
            __m256i* to = reinterpret_cast<__m256i*>(out + i);
            const __m256i a = _mm256_loadu_si256(from), b = _mm256_loadu_si256(from + 1);
            const __m256i c = _mm256_loadu_si256(from + 2), d = _mm256_loadu_si256(from + 3);
            _mm256_stream_si256(to, a), _mm256_stream_si256(to + 1, b);
            _mm256_stream_si256(to + 2, c), _mm256_stream_si256(to + 3, d);
        }
    std::memcpy(out + i, row + i, size_t(n_bytes - i));
}
inline void written() { _mm_sfence(); }
#else
inline void copy_row(const char* row, i64 n_bytes, char* __restrict out) { std::memcpy(out, row, size_t(n_bytes)); }
inline void written() {}
#endif

#ifdef __F16C__
inline __m256 eight(const float16* x) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))); }
inline void widen(const float16* x, i64 d, float* __restrict out) {
    i64 i = 0;
    if (past_cache(out))
        for (; i + 16 <= d; i += 16) {
            const __m256 a = eight(x + i), b = eight(x + i + 8);
            _mm256_stream_ps(out + i, a), _mm256_stream_ps(out + i + 8, b);
        }
    for (; i + 8 <= d; i += 8) _mm256_storeu_ps(out + i, eight(x + i));
    for (; i < d; i++) out[i] = _cvtsh_ss(x[i].bits);
}
#endif

// d numbers, then their scale.
inline void widen(const int8_t* x, i64 d, float* __restrict out) {
    float scale;
    std::memcpy(&scale, x + d, 4);
    for (i64 i = 0; i < d; i++) out[i] = float(x[i]) * scale;
}

// Rows by number: each is asked for while those before are worked on, since the processor cannot guess it.
constexpr i64 AHEAD = 4, LINE = 64;
template <class Write>
void each_row(const char* rows, i64 row_bytes, const i64* which, i64 n, int n_threads, Write write) {
#pragma omp parallel num_threads(n_threads)
    {
#pragma omp for schedule(static)
        for (i64 r = 0; r < n; r++) {
            const char* next = rows + which[std::min(r + AHEAD, n - 1)] * row_bytes;
            for (i64 i = 0; i < row_bytes; i += LINE) __builtin_prefetch(next + i);
            write(r, rows + which[r] * row_bytes);
        }
        written();
    }
}

template <class T>
void gather(const char* rows, i64 row_bytes, const i64* which, i64 n, i64 d, float* out, i64 stride, int n_threads) {
    each_row(rows, row_bytes, which, n, n_threads,
             [=](i64 r, const char* row) { widen(reinterpret_cast<const T*>(row), d, out + r * stride); });
}

}  // namespace

extern "C" {

// Pieces of a file into `target`, one after the other: piece k, from places[k] in the file, ends at ends[k] of it.
int read_pieces(int file, const i64* places, const i64* ends, i64 n, char* target, i64 ahead, int n_threads) {
    std::atomic<int> failed{0};
    const auto part = [&](i64 k) {
        const i64 first = n * k / n_threads, last = n * (k + 1) / n_threads;
        if (const int error = read_in_order(file, places, ends, first, last, target, ahead / n_threads)) failed = error;
    };
    std::vector<std::thread> threads;
    for (int k = 1; k < n_threads; k++) {
        try {
            threads.emplace_back(part, k);
        } catch (const std::system_error&) {  // no more threads to be had: this one does it
            part(k);
        }
    }
    part(0);
    for (std::thread& thread : threads) thread.join();
    return failed;
}

void gather_stored(const char* rows, i64 row_bytes, const i64* which, i64 n, i64, char* out, i64 stride, int n_threads) {
    each_row(rows, row_bytes, which, n, n_threads,
             [=](i64 r, const char* row) { copy_row(row, row_bytes, out + r * stride); });
}
void gather_float16(const char* rows, i64 row_bytes, const i64* which, i64 n, i64 d, float* out, i64 stride, int n_threads) {
    gather<float16>(rows, row_bytes, which, n, d, out, stride, n_threads);
}
void gather_bfloat16(const char* rows, i64 row_bytes, const i64* which, i64 n, i64 d, float* out, i64 stride, int n_threads) {
    gather<bfloat16>(rows, row_bytes, which, n, d, out, stride, n_threads);
}
void gather_int8(const char* rows, i64 row_bytes, const i64* which, i64 n, i64 d, float* out, i64 stride, int n_threads) {
    gather<int8_t>(rows, row_bytes, which, n, d, out, stride, n_threads);
}

}  // extern "C"
