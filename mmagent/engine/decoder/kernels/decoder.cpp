// One pass of a Llama-like decoder over a ragged batch: any number of tokens for each of any number of rows, so that a
// chunk of a prompt, the next token of eight answers and guesses to verify are the same thing. It knows numbers and
// shapes, no weights' files, no tokens' meaning and no Python. mmagent/engine/decoder/native.py mirrors the structs.
//
//   x ─ norm ─ qkv ─ rope ─ attention ─ out ─(+)─ norm ─ gate, up ─ down ─(+)─ ... ─ norm ─ head ─► logits

#if defined(__x86_64__) && defined(__GNUC__)

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma")
#endif

#include "kernels.hpp"
#include "team.hpp"

namespace mmagent {

struct Layer {
    const float* norm;
    Linear qkv;
    const float *q_norm, *k_norm;  // null where the family has none, as are the norms after attention and MLP
    Linear out;
    const float* after_attention;
    const float* mlp_norm;
    Linear gate_up;  // panels of gate and up alternate
    Linear down;
    const float* after_mlp;
    int32_t window;  // positions that a token sees, itself included; 0 is all
    int32_t rope;    // which table of rotations
};

struct Shape {
    int32_t kind, half_cache, layers, hidden, intermediate, heads, kv_heads, head_dim, rotary, vocabulary, activation, threads;
    float eps, scale;
    const Layer* layer;
    const float* norm;
    Linear head;
};

// Tokens that follow `first` others in a row; the logits of the last `wanted` are asked for.
struct Part {
    void *keys, *values;  // of the row: [layers][kv_heads][...]
    int32_t capacity;     // positions, a multiple of 16
    int32_t first, count, wanted;
};

struct Pass {
    int32_t parts, deep_layers;
    const Part* part;
    float* x;                // [tokens][hidden], overwritten
    const int32_t* end;      // first position that each token does not see; null: the next one
    const int32_t* turn;     // line of the tables for each token; null: its position
    const float* tables[4];  // cosines and sines [lines][rotary / 2] of both kinds of rotations
    const float* deep;       // [deep_layers][tokens][hidden]: added after each of the first layers
    float* logits;           // [wanted, in all][vocabulary]
};

namespace {

constexpr int SMALL = 4;       // tokens up to which each thread prepares its own inputs: cheaper than waiting for another
constexpr int TILE = 8;        // tokens of one row whose attention is one chunk
constexpr int QUERIES = 8;     // queries that share each load of keys and values
constexpr size_t CHUNK = 1 << 16;  // bytes of weights

template <class T>
using Buffer = std::vector<T>;

struct Span {
    int32_t first, count;
};

struct Inputs {
    Buffer<char> data;
    Buffer<float> scale;
    Buffer<int32_t> correction;

    void fit(size_t tokens, size_t width) {
        if (data.size() < tokens * width * 4 + 64) {
            scale.resize(tokens * width / GROUP);
            correction.resize(tokens * width / GROUP);
            data.resize(tokens * width * 4 + 64);  // last: its size stands for all three, should memory run out here
        }
    }

    Input of(int k) { return {data.data(), scale.data(), correction.data(), padded(k, GROUP)}; }
};

class Decoder {
   public:
    explicit Decoder(const Shape& shape)
        : shape_(shape), layers_(shape.layer, shape.layer + shape.layers), own_(shape.threads), scores_(shape.threads) {
        width_ = padded(std::max({shape.hidden, shape.intermediate, shape.heads * shape.head_dim}), GROUP);
        for (auto& inputs : own_) inputs.fit(SMALL, width_);
        team_ = std::make_unique<Team>(shape.threads, shape.layers * 16 + 4, sizeof(Pass), [this](Member& member, const void* pass) {
            (this->*body())(member, *static_cast<const Pass*>(pass));
        });
    }

    void run(const Pass& pass) {
        team_->prepare();
        lay_out(pass);
        const size_t tokens = tokens_.size();
        auto fit = [](Buffer<float>& buffer, size_t size) { if (buffer.size() < size) buffer.resize(size); };
        fit(qkv_, tokens * qkv_width());
        fit(mixed_, tokens * shape_.heads * shape_.head_dim);
        fit(hidden_, tokens * shape_.intermediate);
        fit(added_, tokens * shape_.hidden);
        shared_.fit(std::max<size_t>(tokens, outputs_.size()), width_);
        for (auto& scores : scores_) fit(scores, room_ * QUERIES);
        team_->run(&pass);
    }

   private:
    struct Token {
        int32_t part, place, end, turn;
    };

    // Who each token is, and which of them are looked at together.
    void lay_out(const Pass& pass) {
        tokens_.clear();
        outputs_.clear();
        spans_.clear();
        room_ = 0;
        alone_ = true;
        for (int p = 0; p < pass.parts; p++) {
            const Part& part = pass.part[p];
            alone_ = alone_ && part.count == 1;
            for (int i = 0; i < part.count; i++) {
                const int t = static_cast<int>(tokens_.size()), place = part.first + i;
                tokens_.push_back({p, place, pass.end ? pass.end[t] : place + 1, pass.turn ? pass.turn[t] : place});
                room_ = std::max<size_t>(room_, padded(tokens_[t].end, PANEL));
                if (i % TILE == 0) spans_.push_back({t, 0});
                spans_.back().count++;
                if (part.count - i <= part.wanted) outputs_.push_back(t);
            }
        }
    }

    using Body = void (Decoder::*)(Member&, const Pass&);

    Body body() const {
        if (shape_.half_cache) return shape_.kind == INT8 ? &Decoder::walk<INT8, true> : shape_.kind == BF16 ? &Decoder::walk<BF16, true> : &Decoder::walk<F32, true>;
        return shape_.kind == INT8 ? &Decoder::walk<INT8, false> : shape_.kind == BF16 ? &Decoder::walk<BF16, false> : &Decoder::walk<F32, false>;
    }

    size_t qkv_width() const { return static_cast<size_t>(shape_.heads + 2 * shape_.kv_heads) * shape_.head_dim; }

    template <int KIND, bool HALF>
    void walk(Member& member, const Pass& pass) {
        const int hidden = shape_.hidden, tokens = static_cast<int>(tokens_.size()), mixed = shape_.heads * shape_.head_dim;
        auto row = [](float* base, size_t width) { return [=](int t) { return base + t * width; }; };
        const auto x = row(pass.x, hidden);
        const auto added = row(added_.data(), hidden);
        const auto inner = row(hidden_.data(), shape_.intermediate);
        for (int l = 0; l < shape_.layers; l++) {
            const Layer& layer = layers_[l];
            if (!linear<KIND>(member, layer.qkv, x, layer.norm, tokens, into(row(qkv_.data(), qkv_width()), layer.qkv.n))) return;
            if (!attention<HALF>(member, pass, layer, l)) return;
            const auto attended = row(mixed_.data(), mixed);
            if (!residual<KIND>(member, layer.out, attended, layer.after_attention, x, added, tokens)) return;
            Vector gate[16];
            auto gated = [&](int panel, int t, Vector v) {
                if (panel % 2 == 0) gate[t % 16] = v;
                else {
                    const int n = panel / 2 * PANEL;
                    _mm512_mask_storeu_ps(inner(t) + n, lanes(shape_.intermediate - n), _mm512_mul_ps(activate(shape_.activation, gate[t % 16]), v));
                }
            };
            if (!linear<KIND>(member, layer.gate_up, x, layer.mlp_norm, tokens, gated)) return;
            if (!residual<KIND>(member, layer.down, inner, layer.after_mlp, x, added, tokens)) return;
            if (l < pass.deep_layers) {
                const float* deep = pass.deep + static_cast<size_t>(l) * tokens * hidden;
                if (!member.phase(tokens, [&](int t) { for (int i = 0; i < hidden; i++) x(t)[i] += deep[static_cast<size_t>(t) * hidden + i]; })) return;
            }
        }
        const auto wanted = [&](int i) { return x(outputs_[i]); };
        const int outputs = static_cast<int>(outputs_.size());
        if (outputs) linear<KIND>(member, shape_.head, wanted, shape_.norm, outputs, into(row(pass.logits, shape_.vocabulary), shape_.vocabulary));
    }

    template <class To>
    static auto into(To to, int width) {
        return [=](int panel, int t, Vector v) { _mm512_mask_storeu_ps(to(t) + panel * PANEL, lanes(width - panel * PANEL), v); };
    }

    // x += linear(source), normalised first where `after` is not null.
    template <int KIND, class Source, class To>
    bool residual(Member& member, const Linear& weights, Source source, const float* after, To x, To added, int tokens) {
        const int hidden = shape_.hidden;
        if (!after)
            return linear<KIND>(member, weights, source, nullptr, tokens, [&](int panel, int t, Vector v) {
                float* place = x(t) + panel * PANEL;
                const __mmask16 mask = lanes(hidden - panel * PANEL);
                _mm512_mask_storeu_ps(place, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, place), v));
            });
        return linear<KIND>(member, weights, source, nullptr, tokens, into(added, hidden)) && member.phase(tokens, [&](int t) {
            const float factor = inverse_rms(added(t), hidden, shape_.eps);
            for (int i = 0; i < hidden; i++) x(t)[i] += added(t)[i] * factor * after[i];
        });
    }

    template <int KIND, class Source, class Emit>
    bool linear(Member& member, const Linear& weights, Source source, const float* norm, int tokens, Emit emit) {
        const bool small = tokens <= SMALL;
        Inputs& inputs = small ? own_[member.index] : shared_;
        const Input input = inputs.of(weights.k);
        auto fill = [&](int t) { prepare<KIND>(source(t), weights.k, norm, shape_.eps, input, t); };
        if (!small && !member.phase(tokens, fill)) return false;
        const int panels = padded(weights.n, PANEL) / PANEL;
        const int share = std::max<int>(1, panels / (shape_.threads * (small ? 1 : 4)));
        const int step = std::max<int>(4, std::min<int>(share, CHUNK / panel_bytes<KIND>(weights)) / 4 * 4);
        bool ready = !small;
        return member.phase((panels + step - 1) / step, [&](int chunk) {
            for (int t = 0; !ready && t < tokens; t++) fill(t);
            ready = true;
            multiply<KIND>(weights, chunk * step, std::min(panels, (chunk + 1) * step), input, tokens, emit);
        });
    }

    // Turn a head by its position (rotate-half form of RoPE, arXiv 2104.09864) after its norm, where it has one.
    void turn(float* head, const float* norm, const float* cosine, const float* sine, float factor) const {
        const int dim = shape_.head_dim, half = shape_.rotary / 2;
        const float rms = norm ? inverse_rms(head, dim, shape_.eps) : 1.0f;
        for (int i = 0; i < dim; i++) head[i] *= norm ? rms * norm[i] : 1.0f;
        for (int i = 0; i < half; i++) {
            const float a = head[i], b = head[i + half];
            head[i] = a * cosine[i] - b * sine[i];
            head[i + half] = b * cosine[i] + a * sine[i];
        }
        if (factor != 1.0f)
            for (int i = 0; i < dim; i++) head[i] *= factor;
    }

    const float* table(const Pass& pass, const Layer& layer, int which, int t) const {
        return pass.tables[layer.rope * 2 + which] + static_cast<size_t>(tokens_[t].turn) * (shape_.rotary / 2);
    }

    void* head_of(void* base, int layer, int head, size_t capacity, int width, bool half) const {
        const size_t index = (static_cast<size_t>(layer) * shape_.kv_heads + head) * capacity * width;
        return static_cast<char*>(base) + index * (half ? 2 : 4);
    }

    // Turn the queries of one KV head, and write its key and value into the row.
    template <bool HALF>
    void remember(const Pass& pass, const Layer& layer, int l, int t, int head) {
        const int dim = shape_.head_dim, shared = shape_.heads / shape_.kv_heads;
        float* token = qkv_.data() + t * qkv_width();
        const float *cosine = table(pass, layer, 0, t), *sine = table(pass, layer, 1, t);
        for (int g = 0; g < shared; g++) turn(token + (head * shared + g) * dim, layer.q_norm, cosine, sine, shape_.scale);
        float* key = token + (shape_.heads + head) * dim;
        turn(key, layer.k_norm, cosine, sine, 1.0f);
        const float* value = token + (shape_.heads + shape_.kv_heads + head) * dim;
        const Part& row = pass.part[tokens_[t].part];
        const size_t place = tokens_[t].place;
        void* keys = head_of(row.keys, l, head, row.capacity, dim, HALF);
        void* values = head_of(row.values, l, head, row.capacity, padded(dim, PANEL), HALF);
        for (int d = 0; d < dim; d++) {
            store<HALF>(keys, (place / PANEL * dim + d) * PANEL + place % PANEL, key[d]);
            store<HALF>(values, place * padded(dim, PANEL) + d, value[d]);
        }
    }

    template <bool HALF>
    bool attention(Member& member, const Pass& pass, const Layer& layer, int l) {
        const int heads = shape_.kv_heads;
        if (!alone_ && !member.phase(static_cast<int>(tokens_.size()), [&](int t) { for (int h = 0; h < heads; h++) remember<HALF>(pass, layer, l, t, h); })) return false;
        return member.phase(static_cast<int>(spans_.size()) * heads, [&](int chunk) {
            const Span& span = spans_[chunk / heads];
            if (alone_) remember<HALF>(pass, layer, l, span.first, chunk % heads);
            look<HALF>(member, pass, layer, l, span, chunk % heads);
        });
    }

    template <bool HALF>
    void look(Member& member, const Pass& pass, const Layer& layer, int l, const Span& span, int head) {
        const int dim = shape_.head_dim, shared = shape_.heads / shape_.kv_heads;
        const Part& row = pass.part[tokens_[span.first].part];
        const void* keys = head_of(row.keys, l, head, row.capacity, dim, HALF);
        const void* values = head_of(row.values, l, head, row.capacity, padded(dim, PANEL), HALF);
        const float* query[QUERIES];
        float* out[QUERIES];
        int low[QUERIES], high[QUERIES], count = 0;
        auto flush = [&] {
            attend_some<HALF, QUERIES>(count, query, low, high, keys, values, dim, scores_[member.index].data(), room_, out);
            count = 0;
        };
        for (int t = span.first; t < span.first + span.count; t++)
            for (int g = 0; g < shared; g++) {
                const int q = head * shared + g;
                query[count] = qkv_.data() + t * qkv_width() + static_cast<size_t>(q) * dim;
                out[count] = mixed_.data() + (static_cast<size_t>(t) * shape_.heads + q) * dim;
                high[count] = tokens_[t].end;
                low[count] = layer.window ? std::max(0, tokens_[t].place + 1 - layer.window) : 0;
                if (++count == QUERIES) flush();
            }
        flush();
    }

    const Shape shape_;
    const Buffer<Layer> layers_;
    size_t width_, room_ = 0;
    bool alone_ = false;  // each row has one token only
    Buffer<Inputs> own_;  // of each thread
    Inputs shared_;
    Buffer<Buffer<float>> scores_;
    Buffer<float> qkv_, mixed_, hidden_, added_;
    Buffer<Token> tokens_;
    Buffer<int32_t> outputs_;
    Buffer<Span> spans_;  // tokens of one row that are one chunk of attention
    std::unique_ptr<Team> team_;  // last: its threads end before what they use
};

inline float read(const void* base, size_t index, bool half) {
    if (!half) return static_cast<const float*>(base)[index];
    const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(base)[index]) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

void pack_panel(int kind, const void* source, bool half, int n, int k, int panel, char* target, float* scales, Buffer<float>& line) {
    const int wide = padded(k, GROUP), size = kind == F32 ? 4 : kind == BF16 ? 2 : 1, step = 4 / size;
    char* out = target + static_cast<size_t>(panel) * wide * PANEL * size;
    for (int lane = 0; lane < PANEL; lane++) {
        const int output = panel * PANEL + lane;
        std::fill(line.begin(), line.end(), 0.0f);
        for (int i = 0; output < n && i < k; i++) line[i] = read(source, static_cast<size_t>(output) * k + i, half);
        float largest = 0;
        for (float v : line) largest = std::max(largest, std::fabs(v));
        if (kind == INT8) scales[output] = largest / 127.0f;
        const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
        for (int i = 0; i < wide; i++) {
            const size_t place = (static_cast<size_t>(i / step) * PANEL + lane) * step + i % step;
            if (kind == F32) reinterpret_cast<float*>(out)[place] = line[i];
            else if (kind == BF16) store<true>(out, place, line[i]);
            else reinterpret_cast<uint8_t*>(out)[place] = static_cast<uint8_t>(static_cast<int>(std::lrintf(line[i] * inverse)) + 128);
        }
    }
}

}  // namespace
}  // namespace mmagent

using namespace mmagent;

extern "C" {

int mmagent_pack(int kind, const void* source, int half, int n, int k, void* target, float* scales, int threads) try {
    const int panels = padded(n, PANEL) / PANEL;
    std::atomic<int> next{0};
    Buffer<Buffer<float>> lines(threads, Buffer<float>(padded(k, GROUP)));  // before the threads, which must not throw
    auto work = [&](int thread) {
        for (int panel; (panel = next.fetch_add(1)) < panels;) pack_panel(kind, source, half, n, k, panel, static_cast<char*>(target), scales, lines[thread]);
    };
    Buffer<std::thread> others;
    others.reserve(threads);
    try {
        for (int i = 1; i < threads; i++) others.emplace_back(work, i);
    } catch (const std::system_error&) {
        // those that started share the work
    }
    work(0);
    for (auto& other : others) other.join();
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

void* mmagent_create(const Shape* shape) try {
    return new Decoder(*shape);
} catch (...) {
    return nullptr;
}

int mmagent_run(void* decoder, const Pass* pass) try {
    static_cast<Decoder*>(decoder)->run(*pass);
    return 0;
} catch (...) {  // bad_alloc, or length_error of a buffer beyond all memory
    return 1;
}

void mmagent_destroy(void* decoder) { delete static_cast<Decoder*>(decoder); }

}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // x86-64

// Which kinds of weights this processor can run: bit 0 float32, bit 1 bfloat16, bit 2 int8.
extern "C" int mmagent_kinds(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")))
        return 0;
    // all kinds are compiled for all these instructions, so there is all or nothing
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") ? 7 : 0;
#else
    return 0;
#endif
}
