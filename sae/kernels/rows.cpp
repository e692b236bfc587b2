// Rows from a file into memory, and from memory into a batch. Called by sae/kernels/scatter.py and sae/kernels/widen.py
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
constexpr i64 BETWEEN_BYTES = 1 << 15, REQUEST_BYTES = 1 << 18;

// Rows that lie one after the other in a file, the first of them the r-th of all that are read.
struct Piece {
    i64 place, r, n;
};

// Where rows go: the r-th to rows + to[r] * row_bytes.
struct Target {
    char* rows;
    const i64* to;
    i64 row_bytes;
};

// What is in memory of a piece, without waiting for a disk.
inline i64 read_cached(int file, char* to, i64 n_bytes, i64 place) {
#ifdef RWF_NOWAIT
    iovec whole = {to, size_t(n_bytes)};
    return preadv2(file, &whole, 1, place, RWF_NOWAIT);
#else
    errno = EAGAIN;
    return -1;
#endif
}

inline void announce(int file, i64 n_bytes, i64 place) {
#ifdef POSIX_FADV_WILLNEED
    posix_fadvise(file, place, n_bytes, POSIX_FADV_WILLNEED);
#endif
}

// 0, ENDED, or the system's error.
int read_whole(int file, char* to, i64 n_bytes, i64 place) {
    while (n_bytes > 0) {
        const i64 got = pread(file, to, size_t(n_bytes), place);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        if (got == 0) return ENDED;
        to += got, n_bytes -= got, place += got;
    }
    return 0;
}

// Rows are written past the cache where they lie so that this can be done: what is written would have to be fetched first,
// and throw out what others work on.
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

inline void scatter(const char* rows, const Piece& piece, const Target& target) {
    for (i64 i = 0; i < piece.n; i++)
        copy_row(rows + i * target.row_bytes, target.row_bytes, target.rows + target.to[piece.r + i] * target.row_bytes);
}

// Memory that begins where a page does: the system copies into it faster.
class Pages {
  public:
    explicit Pages(i64 n_bytes) : memory(size_t(n_bytes + PAGE)) {}
    char* begin() { return memory.data() + (PAGE - reinterpret_cast<uintptr_t>(memory.data()) % PAGE) % PAGE; }

    static constexpr i64 PAGE = 4096;

  private:
    std::vector<char> memory;
};

// Pieces as they come, by one of many threads, so that a disk has many requests at once; past the system's memory, through
// `direct`, the same file opened so that it takes whole pages only. Nobody asks what is in memory: Linux begins to read what
// is not, and all would be read twice.
int read_past(int file, int direct, const i64* places, const i64* ends, i64 n, std::atomic<i64>& next, const Target& target) {
    const i64 row_bytes = target.row_bytes, most = std::max(i64(1), REQUEST_BYTES / row_bytes);
    Pages pages(most * row_bytes + 2 * Pages::PAGE);
    char* between = pages.begin();
    for (i64 k; (k = next++) < n;) {
        const i64 start = k ? ends[k - 1] : 0;
        for (i64 r = start; r < ends[k]; r += most) {
            const Piece piece = {places[k] + (r - start) * row_bytes, r, std::min(most, ends[k] - r)};
            const i64 n_bytes = piece.n * row_bytes, before = piece.place % Pages::PAGE;
            char* rows = between;
            const i64 whole = (before + n_bytes + Pages::PAGE - 1) / Pages::PAGE * Pages::PAGE;
            if (pread(direct, between, size_t(whole), piece.place - before) >= before + n_bytes)
                rows = between + before;
            else if (const int failed = read_whole(file, between, n_bytes, piece.place))  // it does not take them, or has less
                return failed;
            scatter(rows, piece, target);
        }
    }
    written();
    return 0;
}

// Pieces one after the other, through memory that stays in the cache; one that is not in the system's is announced, and read
// when `ahead` more bytes were.
int read_in_order(int file, const i64* places, const i64* ends, i64 first, i64 last, const Target& target, i64 ahead) {
    const i64 row_bytes = target.row_bytes, most = std::max(i64(1), BETWEEN_BYTES / row_bytes);
    Pages pages(most * row_bytes);
    char* between = pages.begin();
    std::deque<Piece> late;
    const auto read_late = [&] {
        const Piece piece = late.front();
        late.pop_front();
        const int failed = read_whole(file, between, piece.n * row_bytes, piece.place);
        if (!failed) scatter(between, piece, target);
        return failed;
    };
    i64 n_late = 0;
    for (i64 k = first; k < last; k++) {
        const i64 start = k ? ends[k - 1] : 0;
        for (i64 r = start; r < ends[k]; r += most) {
            const Piece piece = {places[k] + (r - start) * row_bytes, r, std::min(most, ends[k] - r)};
            const i64 n_bytes = piece.n * row_bytes, got = read_cached(file, between, n_bytes, piece.place);
            if (got < 0 && errno != EAGAIN && errno != EOPNOTSUPP && errno != EINTR) return errno;
            if (got == n_bytes) {
                scatter(between, piece, target);
                continue;
            }
            announce(file, n_bytes, piece.place);
            late.push_back(piece);
            for (n_late += n_bytes; n_late > ahead;) {
                n_late -= late.front().n * row_bytes;
                if (const int failed = read_late()) return failed;
            }
        }
    }
    while (!late.empty())
        if (const int failed = read_late()) return failed;
    written();
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

template <class Write>
void each_row(const char* rows, i64 row_bytes, i64 n, int n_threads, Write write) {
#pragma omp parallel num_threads(n_threads)
    {
#pragma omp for schedule(static)
        for (i64 r = 0; r < n; r++) write(r, rows + r * row_bytes);
        written();
    }
}

template <class T>
void widen_rows(const char* rows, i64 row_bytes, i64 n, i64 d, float* out, i64 stride, int n_threads) {
    each_row(rows, row_bytes, n, n_threads,
             [=](i64 r, const char* row) { widen(reinterpret_cast<const T*>(row), d, out + r * stride); });
}

}  // namespace

extern "C" {

// Rows of a file into `target`: piece k, from places[k] in the file, has the rows up to the ends[k]-th of all; the r-th goes
// to row to[r]. `direct` is the same file opened for reading past the system's memory, or -1.
int read_rows(int file, int direct, const i64* places, const i64* ends, i64 n, i64 row_bytes, char* rows, const i64* to,
              i64 ahead, int n_threads) {
    const Target target = {rows, to, row_bytes};
    std::atomic<int> failed{0};
    std::atomic<i64> next{0};
    const auto part = [&](i64 k) {
        if (direct >= 0) {
            if (const int error = read_past(file, direct, places, ends, n, next, target)) failed = error;
            return;
        }
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

// Rows into a batch.
void copy_stored(const char* rows, i64 row_bytes, i64 n, i64, char* out, i64 stride, int n_threads) {
    each_row(rows, row_bytes, n, n_threads, [=](i64 r, const char* row) { copy_row(row, row_bytes, out + r * stride); });
}
void widen_float16(const char* rows, i64 row_bytes, i64 n, i64 d, float* out, i64 stride, int n_threads) {
    widen_rows<float16>(rows, row_bytes, n, d, out, stride, n_threads);
}
void widen_bfloat16(const char* rows, i64 row_bytes, i64 n, i64 d, float* out, i64 stride, int n_threads) {
    widen_rows<bfloat16>(rows, row_bytes, n, d, out, stride, n_threads);
}
void widen_int8(const char* rows, i64 row_bytes, i64 n, i64 d, float* out, i64 stride, int n_threads) {
    widen_rows<int8_t>(rows, row_bytes, n, d, out, stride, n_threads);
}

}  // extern "C"
