// Numbers in AVX-512 registers: inputs, products, attention. Nothing here depends on how many tokens are computed at
// once: each output is one chain of additions whose order follows from the shapes alone. So a token's result is the
// same bit for bit alone, in a batch, in a chunk of a prompt or as a guess that is verified.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <immintrin.h>

namespace mmagent {

enum Kind { F32 = 0, BF16 = 1, INT8 = 2 };

constexpr int PANEL = 16;  // outputs of a linear layer that stand side by side in one register
constexpr int GROUP = 64;  // inputs that share a scale when they are rounded to 8 bits

constexpr int padded(int n, int to) { return (n + to - 1) / to * to; }

// Weights [n, k] in panels: [n / 16][k / step][16][step], where step inputs fill 4 bytes. Scales are per output.
struct Linear {
    const void* weight;
    const float* scale;
    const float* bias;
    int32_t n, k;
};

template <int KIND>
constexpr int element_size = KIND == F32 ? 4 : KIND == BF16 ? 2 : 1;

template <int KIND>
inline size_t panel_bytes(const Linear& linear) {
    return static_cast<size_t>(padded(linear.k, GROUP)) * PANEL * element_size<KIND>;
}

// Tokens as a linear layer reads them: [tokens][k], rounded to the weights' kind.
struct Input {
    char* data;
    float* scale;         // [tokens][k / GROUP], INT8 only
    int32_t* correction;  // [tokens][k / GROUP]: -128 times the sum of a group, because weights are stored as w + 128
    int32_t stride;       // inputs per token, a multiple of GROUP
};

using Vector = __m512;

inline float sum(Vector v) { return _mm512_reduce_add_ps(v); }

// e^x to about 1e-7, relative; 0 below -87.
inline Vector exponential(Vector x) {
    const Vector low = _mm512_set1_ps(-87.0f);
    const __mmask16 tiny = _mm512_cmp_ps_mask(x, low, _CMP_LT_OQ);
    x = _mm512_max_ps(x, low);
    const Vector n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    Vector r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    Vector p = _mm512_set1_ps(1.9875691500e-4f);
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_maskz_scalef_ps(static_cast<__mmask16>(~tiny), p, n);
}

inline Vector sigmoid(Vector x) {
    const Vector one = _mm512_set1_ps(1.0f);
    return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

enum Activation { SILU = 0, GELU_TANH = 1 };

inline Vector activate(int kind, Vector x) {
    if (kind == SILU) return _mm512_mul_ps(x, sigmoid(x));
    const Vector cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);  // 0.5 (1 + tanh(u)) = sigmoid(2 u)
    const Vector u = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x);
    return _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(u, _mm512_set1_ps(2.0f * 0.7978845608f))));
}

inline __mmask16 lanes(int count) {
    return count >= PANEL ? 0xffff : static_cast<__mmask16>((1u << std::max(count, 0)) - 1);
}

inline __m256i to_bf16(Vector v) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)); }

inline Vector from_bf16(__m256i v) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}

// 1 / root mean square of x [k].
inline float inverse_rms(const float* x, int k, float eps) {
    Vector squares = _mm512_setzero_ps();
    for (int i = 0; i < k; i += PANEL) {
        const Vector v = _mm512_maskz_loadu_ps(lanes(k - i), x + i);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    return 1.0f / std::sqrt(sum(squares) / static_cast<float>(k) + eps);
}

// One token x [k], RMS-normalised where norm is not null, into place t of an input.
template <int KIND>
void prepare(const float* x, int k, const float* norm, float eps, const Input& input, int t) {
    const Vector factor = _mm512_set1_ps(norm ? inverse_rms(x, k, eps) : 1.0f);
    auto value = [&](int i) {
        const __mmask16 mask = lanes(k - i);
        const Vector v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor);
        return norm ? _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, norm + i)) : v;
    };
    char* out = input.data + static_cast<size_t>(t) * input.stride * element_size<KIND>;
    for (int g = 0; g < padded(k, GROUP) / GROUP; g++) {
        Vector v[4];
        for (int j = 0; j < 4; j++) v[j] = value(g * GROUP + j * PANEL);
        if constexpr (KIND == F32) {
            for (int j = 0; j < 4; j++) _mm512_storeu_ps(reinterpret_cast<float*>(out) + g * GROUP + j * PANEL, v[j]);
        } else if constexpr (KIND == BF16) {
            for (int j = 0; j < 4; j++)
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (g * GROUP + j * PANEL) * 2), to_bf16(v[j]));
        } else {
            Vector peak = _mm512_abs_ps(v[0]);
            for (int j = 1; j < 4; j++) peak = _mm512_max_ps(peak, _mm512_abs_ps(v[j]));
            const float largest = _mm512_reduce_max_ps(peak);
            const Vector inverse = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
            __m512i total = _mm512_setzero_si512();
            for (int j = 0; j < 4; j++) {
                const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(v[j], inverse));
                total = _mm512_add_epi32(total, q);
                _mm_storeu_si128(reinterpret_cast<__m128i*>(out + g * GROUP + j * PANEL), _mm512_cvtsepi32_epi8(q));
            }
            const size_t place = static_cast<size_t>(t) * (input.stride / GROUP) + g;
            input.scale[place] = largest / 127.0f;
            input.correction[place] = -128 * _mm512_reduce_add_epi32(total);
        }
    }
}

// M tokens from t on times P panels from `panel` on; emit(p, m, 16 outputs).
template <int KIND, int P, int M, class Emit>
inline void tile(const Linear& linear, int panel, const Input& input, int t, Emit&& emit) {
    const size_t bytes = panel_bytes<KIND>(linear);
    const char* weight = static_cast<const char*>(linear.weight) + panel * bytes;
    const size_t stride = static_cast<size_t>(input.stride) * element_size<KIND>;
    const char* x = input.data + t * stride;
    const int groups = padded(linear.k, GROUP) / GROUP;
    constexpr int STEPS = GROUP * element_size<KIND> / 4;  // registers of weights in a group
    Vector result[P][M];
    for (int p = 0; p < P; p++)
        for (int m = 0; m < M; m++) result[p][m] = _mm512_setzero_ps();
    for (int g = 0; g < groups; g++) {
        [[maybe_unused]] __m512i whole[P][M];
        if constexpr (KIND == INT8)
            for (int m = 0; m < M; m++)
                for (int p = 0; p < P; p++)
                    whole[p][m] = _mm512_set1_epi32(input.correction[static_cast<size_t>(t + m) * (input.stride / GROUP) + g]);
#pragma GCC unroll 4
        for (int s = 0; s < STEPS; s++) {
            __m512i w[P];
            for (int p = 0; p < P; p++) w[p] = _mm512_loadu_si512(weight + p * bytes + (static_cast<size_t>(g) * STEPS + s) * 64);
            for (int m = 0; m < M; m++) {
                const __m512i v = _mm512_set1_epi32(*reinterpret_cast<const int32_t*>(x + m * stride + (g * STEPS + s) * 4));
                for (int p = 0; p < P; p++) {
                    if constexpr (KIND == INT8) whole[p][m] = _mm512_dpbusd_epi32(whole[p][m], w[p], v);
                    else if constexpr (KIND == BF16)
                        result[p][m] = _mm512_dpbf16_ps(result[p][m], reinterpret_cast<__m512bh>(w[p]), reinterpret_cast<__m512bh>(v));
                    else result[p][m] = _mm512_fmadd_ps(_mm512_castsi512_ps(w[p]), _mm512_castsi512_ps(v), result[p][m]);
                }
            }
        }
        if constexpr (KIND == INT8)
            for (int m = 0; m < M; m++) {
                const Vector scale = _mm512_set1_ps(input.scale[static_cast<size_t>(t + m) * (input.stride / GROUP) + g]);
                for (int p = 0; p < P; p++) result[p][m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[p][m]), scale, result[p][m]);
            }
    }
    for (int p = 0; p < P; p++) {
        const int n = (panel + p) * PANEL;
        const Vector scale = KIND == INT8 ? _mm512_loadu_ps(linear.scale + n) : _mm512_set1_ps(1.0f);
        const Vector bias = linear.bias ? _mm512_loadu_ps(linear.bias + n) : _mm512_setzero_ps();
        for (int m = 0; m < M; m++) emit(p, m, KIND == INT8 || linear.bias ? _mm512_fmadd_ps(result[p][m], scale, bias) : result[p][m]);
    }
}

template <int KIND, int P, int M, class Emit>
inline void tiles(const Linear& linear, int panel, const Input& input, int t, int tokens, Emit&& emit) {
    if constexpr (M > 0) {
        for (; t + M <= tokens; t += M)
            tile<KIND, P, M>(linear, panel, input, t, [&](int p, int m, Vector v) { emit(panel + p, t + m, v); });
        if (t < tokens) tiles<KIND, P, (M > 8 ? 8 : M > 4 ? 4 : M > 2 ? 2 : M - 1)>(linear, panel, input, t, tokens, emit);
    }
}

// Panels first..last of a linear layer for all tokens; emit(panel, token, 16 outputs). Panels 2i and 2i + 1 of a token
// are emitted one after the other where `first` is even.
template <int KIND, class Emit>
inline void multiply(const Linear& linear, int first, int last, const Input& input, int tokens, Emit&& emit) {
    int panel = first;
    if (tokens == 1)
        for (; panel + 4 <= last; panel += 4) tiles<KIND, 4, 1>(linear, panel, input, 0, 1, emit);
    for (; panel + 2 <= last; panel += 2) tiles<KIND, 2, (KIND == INT8 ? 6 : 12)>(linear, panel, input, 0, tokens, emit);
    if (panel < last) tiles<KIND, 1, 6>(linear, panel, input, 0, tokens, emit);
}

// Keys of one head are kept as [position / 16][head_dim][16], values as [position][head_dim, padded to 16].
template <bool HALF>
inline Vector load(const void* base, size_t index) {
    if constexpr (HALF) return from_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(base) + index)));
    else return _mm512_loadu_ps(static_cast<const float*>(base) + index);
}

template <bool HALF>
inline void store(void* base, size_t index, float value) {
    if constexpr (HALF) {
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        static_cast<uint16_t*>(base)[index] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    } else {
        static_cast<float*>(base)[index] = value;
    }
}

// Softmax attention of R queries [head_dim], already scaled, over positions low[r] <= p < high[r] of one head.
template <bool HALF, int R>
void attend(const float* const* query, const int* low, const int* high, const void* keys, const void* values, int head_dim,
            float* scores, size_t room, float* const* out) {
    int first = low[0], last = high[0];
    for (int r = 1; r < R; r++) first = std::min(first, low[r]), last = std::max(last, high[r]);
    first = first / PANEL * PANEL;
    const int width = padded(head_dim, PANEL);
    const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    Vector peak[R], total[R];
    for (int r = 0; r < R; r++) peak[r] = _mm512_set1_ps(-INFINITY), total[r] = _mm512_setzero_ps();
    for (int p = first; p < last; p += PANEL) {
        Vector score[R];
        for (int r = 0; r < R; r++) score[r] = _mm512_setzero_ps();
        const size_t block = static_cast<size_t>(p) * head_dim;
        for (int d = 0; d < head_dim; d++) {
            const Vector key = load<HALF>(keys, block + static_cast<size_t>(d) * PANEL);
            for (int r = 0; r < R; r++) score[r] = _mm512_fmadd_ps(key, _mm512_set1_ps(query[r][d]), score[r]);
        }
        for (int r = 0; r < R; r++) {
            const __m512i place = _mm512_add_epi32(count, _mm512_set1_epi32(p));
            const __mmask16 seen = _mm512_cmpge_epi32_mask(place, _mm512_set1_epi32(low[r])) &
                                   _mm512_cmplt_epi32_mask(place, _mm512_set1_epi32(high[r]));
            score[r] = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), seen, score[r]);
            peak[r] = _mm512_max_ps(peak[r], score[r]);
            _mm512_storeu_ps(scores + r * room + (p - first), score[r]);
        }
    }
    for (int r = 0; r < R; r++) {
        const Vector most = _mm512_set1_ps(_mm512_reduce_max_ps(peak[r]));
        for (int p = 0; p < last - first; p += PANEL) {
            const Vector weight = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + r * room + p), most));
            total[r] = _mm512_add_ps(total[r], weight);
            _mm512_storeu_ps(scores + r * room + p, weight);
        }
    }
    Vector inverse[R];
    for (int r = 0; r < R; r++) inverse[r] = _mm512_set1_ps(1.0f / sum(total[r]));
    constexpr int WIDE = R > 4 ? 2 : 4;  // registers of one value that are summed at a time
    for (int d = 0; d < width; d += WIDE * PANEL) {
        const int wide = std::min(WIDE, (width - d) / PANEL);
        Vector mixed[R][WIDE];
        for (int r = 0; r < R; r++)
            for (int j = 0; j < WIDE; j++) mixed[r][j] = _mm512_setzero_ps();
        auto mix = [&](auto wide) {
            for (int p = first; p < last; p++) {
                Vector value[WIDE];
                for (int j = 0; j < wide; j++) value[j] = load<HALF>(values, static_cast<size_t>(p) * width + d + j * PANEL);
                for (int r = 0; r < R; r++) {
                    const Vector weight = _mm512_set1_ps(scores[r * room + (p - first)]);
                    for (int j = 0; j < wide; j++) mixed[r][j] = _mm512_fmadd_ps(weight, value[j], mixed[r][j]);
                }
            }
        };
        if (wide == WIDE) mix(std::integral_constant<int, WIDE>{});
        else for (int j = 0; j < wide; j++) {  // narrow heads: one register after the other
            for (int p = first; p < last; p++) {
                const Vector value = load<HALF>(values, static_cast<size_t>(p) * width + d + j * PANEL);
                for (int r = 0; r < R; r++) mixed[r][j] = _mm512_fmadd_ps(_mm512_set1_ps(scores[r * room + (p - first)]), value, mixed[r][j]);
            }
        }
        for (int r = 0; r < R; r++)
            for (int j = 0; j < wide; j++)
                _mm512_mask_storeu_ps(out[r] + d + j * PANEL, lanes(head_dim - d - j * PANEL), _mm512_mul_ps(mixed[r][j], inverse[r]));
    }
}

// The same for as many queries as there are, R at most.
template <bool HALF, int R>
void attend_some(int count, const float* const* query, const int* low, const int* high, const void* keys, const void* values,
                 int head_dim, float* scores, size_t room, float* const* out) {
    if constexpr (R > 0) {
        if (count == R) attend<HALF, R>(query, low, high, keys, values, head_dim, scores, room, out);
        else attend_some<HALF, R - 1>(count, query, low, high, keys, values, head_dim, scores, room, out);
    }
}

}  // namespace mmagent
