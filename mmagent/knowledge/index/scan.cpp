// The rows nearest to a query, exactly: every row is compared through the upper four bits of its 8-bit codes; whoever can
// still be among the best by the proven error of that is compared through all eight, and whoever is left is scored from
// its 16-bit numbers. It knows rows and slots, no units, no store and no Python. mmagent/knowledge/index/scan.py mirrors
// the structs and has the proof.
//
// Plain loops throughout: compilers make vectors of them, for each of the processors below and for any other.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define INLINE inline
#define PREFETCH(address) (void)(address)
#endif

namespace {

constexpr int GROUP = 64;      // rows whose best rough score is kept, to pass over all of them at once
constexpr int BATCH = 16;      // groups that a thread takes at a time
constexpr int LANES = 8;       // sums of an exact score, in a fixed order: the same bits on every machine
constexpr int AHEAD = 8;       // rows to fetch ahead where they do not follow each other
constexpr int MIDDLE = 128;    // code = 16 upper + lower - 128
constexpr size_t FEW = 64;     // rows that are scored at once
constexpr int64_t ALONE = 1 << 21;  // bytes of codes up to which starting a thread costs more than it saves
constexpr double SLACK = 0x1p-20;   // of |q| |x|: more than all roundings to float32, which are below 2^-20.2
constexpr double TINY = 1e-28;      // more than what subnormal factors can lose

// Four bits for each of `stride` numbers: byte i has those of i and, above, of i + stride / 2.
struct Block {
    const uint8_t *upper, *lower;    // [rows, stride / 2]: x is about scale * code
    const float* scales;             // [rows]
    const float *rough, *residuals;  // [rows]: |x - scale * (16 upper - 120.5)| and |x - scale * code|, rounded up
    const uint16_t* halves;          // [rows, dimension]: x, as IEEE half precision
    const int64_t* numbers;          // [rows]
    int64_t rows;
};

struct Space {
    const Block* blocks;
    int64_t block_count;
    int32_t shift;  // slot = block << shift | row
    int32_t dimension, stride;
    double longest, rough, residual;  // of any row
};

struct Group {
    const Block* block;  // null: the rows are those of 64 slots
    int64_t first;
    int32_t count;
};

struct Found {
    float score;
    int64_t at;  // slot or number
};

struct Before {  // best first; ties by number
    bool operator()(const Found& a, const Found& b) const { return a.score != b.score ? a.score > b.score : a.at < b.at; }
};

// A query as scale * code.
template <class Code>
struct Coded {
    std::vector<Code> codes;  // [stride]
    double scale, residual;   // |q - scale * code|
    int64_t sum;              // of the codes
};

// Exact, and without subnormal floats, which a process may have switched off.
INLINE float widened(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16, magnitude = half & 0x7fffu;
    const uint32_t normal = (magnitude << 13) + (112u << 23);
    const float small = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f;
    uint32_t bits;
    std::memcpy(&bits, &small, 4);
    const uint32_t subnormal = 0u - (magnitude < 0x400u);
    bits = (bits & subnormal) | (normal & ~subnormal) | sign;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

template <class Code>
INLINE int32_t product(const uint8_t* nibbles, const Code* query, int32_t half) {
    int32_t below = 0, above = 0;
    for (int32_t i = 0; i < half; i++) below += static_cast<uint8_t>(nibbles[i] & 15) * query[i];
    for (int32_t i = 0; i < half; i++) above += static_cast<uint8_t>(nibbles[i] >> 4) * query[half + i];
    return below + above;
}

// Products of float32 and half are exact in double, so that it does not matter whether they are fused with the sums.
INLINE double dot(const uint16_t* halves, const float* query, int32_t dimension) {
    double sums[LANES] = {};
    for (int32_t first = 0; first < dimension; first += GROUP) {
        float x[GROUP] = {}, q[GROUP] = {};
        const int32_t count = dimension - first < GROUP ? dimension - first : GROUP;
        if (count == GROUP) {  // a number of turns that compilers know
            for (int i = 0; i < GROUP; i++) x[i] = widened(halves[first + i]), q[i] = query[first + i];
        } else {
            for (int i = 0; i < count; i++) x[i] = widened(halves[first + i]), q[i] = query[first + i];
        }
        for (int i = 0; i < GROUP; i += LANES)
            for (int lane = 0; lane < LANES; lane++)
                sums[lane] += static_cast<double>(q[i + lane]) * static_cast<double>(x[i + lane]);
    }
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// Scores from the upper bits. Codes of the query are 8 bits wide where the processor multiplies such, else 16.
template <class Code>
struct Rough {
    const Code* query;
    int64_t sum;
    int32_t half;
    float scale;  // half of the query's

    INLINE float operator()(const Block& block, int64_t row) const {
        const int64_t twice = int64_t{32} * product(block.upper + row * half, query, half) - 241 * sum;
        return scale * block.scales[row] * static_cast<float>(twice);
    }
};

template <class Code>
INLINE void follow(const Rough<Code>& rough, const Group& group, float* out) {
    for (int32_t j = 0; j < group.count; j++) out[j] = rough(*group.block, group.first + j);
}

template <class Code>
INLINE void gather(const Rough<Code>& rough, const Space& space, const int64_t* slots, int32_t count, float* out) {
    const int64_t mask = (int64_t{1} << space.shift) - 1;
    for (int32_t j = 0; j < count; j++) {
        if (j + AHEAD < count) {
            const int64_t slot = slots[j + AHEAD];
            const uint8_t* row = space.blocks[slot >> space.shift].upper + (slot & mask) * rough.half;
            for (int32_t i = 0; i < rough.half; i += 64) PREFETCH(row + i);
        }
        out[j] = rough(space.blocks[slots[j] >> space.shift], slots[j] & mask);
    }
}

struct Query {
    const Coded<int8_t>& codes;
    std::vector<int16_t> wide;
    int32_t half;

    template <class Code>
    INLINE Rough<Code> rough() const {
        const float scale = static_cast<float>(codes.scale / 2);
        if constexpr (sizeof(Code) == 1) return {codes.codes.data(), codes.sum, half, scale};
        else return {wide.data(), codes.sum, half, scale};
    }
};

struct Kernels {
    void (*follow)(const Query&, const Group&, float*);
    void (*gather)(const Query&, const Space&, const int64_t*, int32_t, float*);
    int32_t (*product)(const uint8_t*, const int16_t*, int32_t);
    double (*dot)(const uint16_t*, const float*, int32_t);
};

#define KERNELS(name, Code, target)                                                                            \
    target void follow_##name(const Query& q, const Group& g, float* o) { follow(q.rough<Code>(), g, o); }      \
    target void gather_##name(const Query& q, const Space& s, const int64_t* t, int32_t n, float* o) {          \
        gather(q.rough<Code>(), s, t, n, o);                                                                   \
    }                                                                                                          \
    target int32_t product_##name(const uint8_t* c, const int16_t* q, int32_t n) { return product(c, q, n); }   \
    target double dot_##name(const uint16_t* x, const float* q, int32_t n) { return dot(x, q, n); }             \
    constexpr Kernels name = {follow_##name, gather_##name, product_##name, dot_##name};

KERNELS(plain, int16_t, )
#if defined(__x86_64__) && defined(__GNUC__)
KERNELS(avx2, int16_t, __attribute__((target("avx2,fma"))))
KERNELS(avx512, int8_t, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"))))
#endif

const Kernels& kernels() {
#if defined(__x86_64__) && defined(__GNUC__)
    static const Kernels& chosen = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                                           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
                                       ? avx512
                                   : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2
                                                                                                      : plain;
    return chosen;
#else
    return plain;
#endif
}

double length_of(const float* query, int32_t dimension) {
    double squares = 0;
    for (int32_t i = 0; i < dimension; i++) squares += static_cast<double>(query[i]) * query[i];
    return std::sqrt(squares);
}

template <class Code>
Coded<Code> coded(const float* query, int32_t dimension, int32_t stride, int64_t most) {
    float largest = 0;
    for (int32_t i = 0; i < dimension; i++) largest = std::max(largest, std::fabs(query[i]));
    Coded<Code> coded{std::vector<Code>(stride, 0), static_cast<double>(largest) / most, 0, 0};
    double missed = 0;
    for (int32_t i = 0; i < dimension && largest > 0; i++) {
        coded.codes[i] = static_cast<Code>(std::lrint(query[i] / coded.scale));
        const double rest = query[i] - coded.scale * coded.codes[i];
        missed += rest * rest;
        coded.sum += coded.codes[i];
    }
    coded.residual = std::sqrt(missed);
    return coded;
}

// What the threads of one piece of work take their share from. It outlives the work: a thread that the system starts
// late finds nothing left to do, and nobody has waited for it.
struct Share {
    std::atomic<size_t> next{0}, done{0};
};

// work(first, end, thread) for all of [0, total), by several threads, of which this one is the first.
template <class Work>
void together(size_t total, size_t batch, int threads, const Work& work) {
    const auto share = std::make_shared<Share>();
    const auto take = [share, total, batch, &work](int thread) {
        for (size_t first; (first = share->next.fetch_add(batch)) < total;) {
            const size_t end = std::min(first + batch, total);
            work(first, end, thread);
            share->done.fetch_add(end - first, std::memory_order_acq_rel);
        }
    };
    try {
        for (int i = 1; i < threads; i++) std::thread([take, i] { take(i); }).detach();
    } catch (const std::exception&) {
        // fewer threads are enough: what nobody took this one does
    }
    take(0);
    while (share->done.load(std::memory_order_acquire) < total) std::this_thread::yield();
}

class Search {
   public:
    Search(const Space& space, const float* query, const int64_t* slots, int64_t slot_count, int64_t k, int threads)
        : space_(space),
          query_(query),
          slots_(slots),
          length_(length_of(query, space.dimension)),
          rough_(coded<int8_t>(query, space.dimension, space.stride, 127)),
          fine_(coded<int16_t>(query, space.dimension, space.stride,  // as many bits as sums of 32 allow
                               std::min<int64_t>(32767, INT32_MAX / (int64_t{16} * space.stride)))) {
        int64_t rows = slot_count;
        if (slots) {
            for (int64_t at = 0; at < slot_count; at += GROUP)
                groups_.push_back({nullptr, at, static_cast<int32_t>(std::min<int64_t>(GROUP, slot_count - at))});
        } else {
            rows = 0;
            for (int64_t b = 0; b < space.block_count; b++) {
                const Block& block = space.blocks[b];
                rows += block.rows;
                for (int64_t at = 0; at < block.rows; at += GROUP)
                    groups_.push_back({&block, at, static_cast<int32_t>(std::min<int64_t>(GROUP, block.rows - at))});
            }
        }
        wanted_ = static_cast<size_t>(std::min(k, rows));
        threads_ = rows * space.stride / 2 < ALONE ? 1 : threads;
        scores_.reset(new float[groups_.size() * GROUP]);
        best_.resize(groups_.size());
    }

    int64_t run(int64_t* numbers, float* scores, int64_t* counts) {
        if (!wanted_) return 0;
        std::vector<Found> tops = scanned();
        std::vector<int64_t> left = contenders(reached(tops));
        counts[0] = static_cast<int64_t>(left.size());
        if (left.size() > 2 * wanted_ + FEW) left = narrowed(left);
        counts[1] = static_cast<int64_t>(left.size());
        std::vector<Found> found(left.size());
        together(left.size(), 1024, left.size() > 8192 ? threads_ : 1, [&](size_t first, size_t end, int) {
            for (size_t i = first; i < end; i++) {
                if (i + AHEAD < end) fetch(left[i + AHEAD]);
                found[i] = exact(left[i]);
            }
        });
        choose(found);
        std::sort(found.begin(), found.end(), Before());
        for (size_t i = 0; i < wanted_; i++) numbers[i] = found[i].at, scores[i] = found[i].score;
        return static_cast<int64_t>(wanted_);
    }

   private:
    // Rough scores of all rows; the best of them.
    std::vector<Found> scanned() {
        std::vector<std::vector<Found>> tops(threads_);
        for (auto& top : tops) top.reserve(wanted_ + 1);
        const Query query{rough_, {rough_.codes.begin(), rough_.codes.end()}, space_.stride / 2};
        together(groups_.size(), BATCH, threads_, [&](size_t first, size_t end, int thread) {
            std::vector<Found>& top = tops[thread];  // a heap, its worst first
            for (size_t g = first; g < end; g++) {
                const Group& group = groups_[g];
                float* out = scores_.get() + g * GROUP;
                if (group.block)
                    kernels_.follow(query, group, out);
                else
                    kernels_.gather(query, space_, slots_ + group.first, group.count, out);
                best_[g] = *std::max_element(out, out + group.count);
                if (top.size() < wanted_ || best_[g] > top.front().score) keep(top, g);
            }
        });
        for (size_t i = 1; i < tops.size(); i++) tops[0].insert(tops[0].end(), tops[i].begin(), tops[i].end());
        choose(tops[0]);
        return std::move(tops[0]);
    }

    void keep(std::vector<Found>& top, size_t g) const {
        const float* out = scores_.get() + g * GROUP;
        for (int32_t j = 0; j < groups_[g].count; j++) {
            if (top.size() == wanted_) {
                if (out[j] <= top.front().score) continue;
                std::pop_heap(top.begin(), top.end(), Before());
                top.pop_back();
            }
            top.push_back({out[j], static_cast<int64_t>(g) * GROUP + j});
            std::push_heap(top.begin(), top.end(), Before());
        }
    }

    // Leaves as many as are wanted.
    void choose(std::vector<Found>& found) const {
        std::nth_element(found.begin(), found.begin() + (wanted_ - 1), found.end(), Before());
        found.resize(wanted_);
    }

    // What as many rows as are wanted score at least.
    double reached(const std::vector<Found>& tops) const {
        double floor = INFINITY;
        for (const Found& top : tops) floor = std::min<double>(floor, exact(top.at).score);
        return floor;
    }

    float threshold(double floor, double query_residual, double residual) const {
        const double farthest = space_.longest + residual;
        return static_cast<float>(floor - (query_residual + SLACK * length_) * farthest - TINY);
    }

    // Rows whose rough scores allow them to reach a floor.
    std::vector<int64_t> contenders(double floor) const {
        const float threshold = this->threshold(floor, rough_.residual, space_.rough);
        const float length = static_cast<float>(length_);
        const float reach = length * static_cast<float>(space_.rough * (1 + 1e-6));
        std::vector<int64_t> left;
        for (size_t g = 0; g < groups_.size(); g++) {
            if (best_[g] + reach < threshold) continue;
            for (int32_t j = 0; j < groups_[g].count; j++) {
                const int64_t at = static_cast<int64_t>(g) * GROUP + j;
                if (scores_[at] + reach < threshold) continue;
                const auto [block, row] = place(at);
                if (scores_[at] + length * block->rough[row] >= threshold) left.push_back(at);
            }
        }
        return left;
    }

    // Those of them whose codes allow it.
    std::vector<int64_t> narrowed(const std::vector<int64_t>& rows) const {
        std::vector<Found> scores(rows.size());
        const float scale = static_cast<float>(fine_.scale);
        const int32_t half = space_.stride / 2;
        together(rows.size(), 1024, rows.size() > 8192 ? threads_ : 1, [&](size_t first, size_t end, int) {
            for (size_t i = first; i < end; i++) {
                if (i + AHEAD < end) {
                    const auto [block, row] = place(rows[i + AHEAD]);
                    for (int32_t j = 0; j < half; j += 64) {
                        PREFETCH(block->upper + row * half + j);
                        PREFETCH(block->lower + row * half + j);
                    }
                }
                const auto [block, row] = place(rows[i]);
                const int64_t upper = kernels_.product(block->upper + row * half, fine_.codes.data(), half);
                const int64_t lower = kernels_.product(block->lower + row * half, fine_.codes.data(), half);
                const int64_t sum = 16 * upper + lower - MIDDLE * fine_.sum;
                scores[i] = {scale * block->scales[row] * static_cast<float>(sum), rows[i]};
            }
        });
        std::vector<Found> tops = scores;
        choose(tops);
        const float threshold = this->threshold(reached(tops), fine_.residual, space_.residual);
        const float length = static_cast<float>(length_);
        std::vector<int64_t> left;
        for (const Found& score : scores) {
            const auto [block, row] = place(score.at);
            if (score.score + length * block->residuals[row] >= threshold) left.push_back(score.at);
        }
        return left;
    }

    struct Place {
        const Block* block;
        int64_t row;
    };

    Place place(int64_t at) const {
        const Group& group = groups_[at / GROUP];
        if (group.block) return {group.block, group.first + at % GROUP};
        const int64_t slot = slots_[group.first + at % GROUP];
        return {space_.blocks + (slot >> space_.shift), slot & ((int64_t{1} << space_.shift) - 1)};
    }

    void fetch(int64_t at) const {
        const auto [block, row] = place(at);
        const uint16_t* halves = block->halves + row * space_.dimension;
        for (int32_t j = 0; j < space_.dimension; j += 32) PREFETCH(halves + j);
    }

    Found exact(int64_t at) const {
        const auto [block, row] = place(at);
        const double score = kernels_.dot(block->halves + row * space_.dimension, query_, space_.dimension);
        return {static_cast<float>(score), block->numbers[row]};
    }

    const Space& space_;
    const float* query_;
    const int64_t* slots_;
    const double length_;
    const Coded<int8_t> rough_;
    const Coded<int16_t> fine_;
    const Kernels& kernels_ = kernels();
    std::vector<Group> groups_;
    size_t wanted_ = 0;
    int threads_ = 1;
    std::unique_ptr<float[]> scores_;  // [groups, GROUP]
    std::vector<float> best_;          // [groups]
};

}  // namespace

// Codes of rows into planes. `most` has |x|, rough and residual of the worst row so far.
// Returns 0, or 1 where a number is not finite.
EXPORT int32_t mmagent_encode(const uint16_t* halves, int64_t rows, int32_t dimension, int32_t stride, uint8_t* upper,
                              uint8_t* lower, float* scales, float* rough, float* residuals, double* most) {
    const int32_t half = stride / 2;
    for (int64_t row = 0; row < rows; row++, halves += dimension, upper += half, lower += half) {
        float largest = 0;
        double squares = 0, missed_rough = 0, missed = 0;
        for (int32_t i = 0; i < dimension; i++) {
            if ((halves[i] & 0x7c00u) == 0x7c00u) return 1;
            const float x = widened(halves[i]);
            largest = std::max(largest, std::fabs(x));
            squares += static_cast<double>(x) * x;
        }
        const float scale = largest / 127;
        std::memset(upper, 0, half);
        std::memset(lower, 0, half);
        for (int32_t i = 0; i < dimension; i++) {
            const float x = widened(halves[i]);
            const float wanted = largest > 0 ? std::nearbyint(x / scale) : 0.f;
            const int32_t code = MIDDLE + static_cast<int32_t>(std::max(-127.f, std::min(127.f, wanted)));
            const int32_t at = i % half, shift = i < half ? 0 : 4;
            upper[at] = static_cast<uint8_t>(upper[at] | (code >> 4) << shift);
            lower[at] = static_cast<uint8_t>(lower[at] | (code & 15) << shift);
            const double rest_rough = x - static_cast<double>(scale) * (16 * (code >> 4) - 120.5);
            const double rest = x - static_cast<double>(scale) * (code - MIDDLE);
            missed_rough += rest_rough * rest_rough;
            missed += rest * rest;
        }
        scales[row] = scale;
        rough[row] = static_cast<float>(std::sqrt(missed_rough) * (1 + 1e-6));
        residuals[row] = static_cast<float>(std::sqrt(missed) * (1 + 1e-6));
        most[0] = std::max(most[0], std::sqrt(squares) * (1 + 1e-12));
        most[1] = std::max(most[1], static_cast<double>(rough[row]));
        most[2] = std::max(most[2], static_cast<double>(residuals[row]));
    }
    return 0;
}

// The k rows nearest to a query, of all or of those in slots: their numbers and scores, best first, ties by number.
// Returns how many, or -1 where there is no memory. `counts`: rows left by the upper bits, and by all bits.
EXPORT int64_t mmagent_nearest(const Space* space, const float* query, const int64_t* slots, int64_t slot_count,
                               int64_t k, int32_t threads, int64_t* numbers, float* scores, int64_t* counts) {
    try {
        return Search(*space, query, slots, slot_count, k, threads).run(numbers, scores, counts);
    } catch (const std::bad_alloc&) {
        return -1;
    }
}
