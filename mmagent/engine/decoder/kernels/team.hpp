// Threads that walk through one pass together. A phase ends when all its chunks are done, not when all threads have
// come by: a thread that the system has put to sleep holds nobody up unless it holds a chunk.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <system_error>
#include <thread>
#include <vector>

#include <immintrin.h>

namespace mmagent {

constexpr int SPINS = 20000;  // about 0.3 ms: longer than a caller needs between two tokens

struct alignas(64) Phase {
    std::atomic<uint64_t> next{0}, done{0};  // epoch << 32 | chunks taken, chunks done
};

class Team;

// One thread's place in a pass.
class Member {
   public:
    Member(Team& team, uint64_t epoch, int index) : index(index), team_(team), epoch_(epoch) {}

    // Run work(chunk) for a share of the chunks, then wait for the rest. False: the pass has ended without this thread.
    template <class Work>
    bool phase(int chunks, Work&& work);

    const int index;  // 0 is the caller

   private:
    Team& team_;
    uint64_t epoch_;
    size_t at_ = 0;
};

class Team {
   public:
    // body(member, pass) is run by every thread; pass is that thread's own copy of what run() was given.
    using Body = std::function<void(Member&, const void*)>;

    Team(int threads, size_t phases, size_t pass_size, Body body)
        : phases_(phases), pass_(pass_size), body_(std::move(body)) {
        try {
            for (int index = 1; index < threads; index++) threads_.emplace_back([this, index] { serve(index); });
        } catch (const std::system_error&) {
            // fewer threads are enough: phases end by chunks
        }
    }

    ~Team() {
        closing_.store(true);
        epoch_.fetch_add(1);
        epoch_.notify_all();
        for (auto& thread : threads_) thread.join();
    }

    // Shut out the threads that are still on their way through the last pass; only then may what they read be changed.
    void prepare() {
        const uint64_t epoch = next_epoch();
        for (auto& phase : phases_) {
            phase.done.store(epoch << 32);
            phase.next.store(epoch << 32);
        }
    }

    void run(const void* pass) {
        const uint64_t epoch = next_epoch();
        std::memcpy(pass_.data(), pass, pass_.size());
        epoch_.store(epoch, std::memory_order_release);
        epoch_.notify_all();
        Member caller(*this, epoch, 0);
        body_(caller, pass);
    }

   private:
    friend class Member;

    uint64_t next_epoch() const { return (epoch_.load(std::memory_order_relaxed) + 1) & 0xffffffff; }

    void serve(int index) {
        std::vector<char> pass(pass_.size());
        uint64_t seen = 0;
        while (true) {
            uint64_t epoch = epoch_.load(std::memory_order_acquire);
            for (int spin = 0; epoch == seen && spin < SPINS; spin++) {
                _mm_pause();
                epoch = epoch_.load(std::memory_order_acquire);
            }
            if (epoch == seen) {
                epoch_.wait(seen, std::memory_order_acquire);
                continue;
            }
            if (closing_.load()) return;
            seen = epoch;
            std::memcpy(pass.data(), pass_.data(), pass.size());
            std::atomic_thread_fence(std::memory_order_acquire);
            // a copy of two passes does no harm: the phases of the earlier one are shut, so nothing of it is read
            if (epoch_.load(std::memory_order_acquire) != epoch) continue;
            Member member(*this, epoch, index);
            body_(member, pass.data());
        }
    }

    std::vector<Phase> phases_;
    std::vector<char> pass_;
    Body body_;
    std::vector<std::thread> threads_;
    std::atomic<uint64_t> epoch_{0};
    std::atomic<bool> closing_{false};
};

template <class Work>
bool Member::phase(int chunks, Work&& work) {
    Phase& phase = team_.phases_[at_++];
    uint64_t seen = phase.next.load(std::memory_order_acquire);
    while (true) {
        if (seen >> 32 != epoch_) return false;
        if (static_cast<int>(seen & 0xffffffff) >= chunks) break;
        if (!phase.next.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) continue;
        work(static_cast<int>(seen & 0xffffffff));
        phase.done.fetch_add(1, std::memory_order_acq_rel);
        seen = phase.next.load(std::memory_order_acquire);
    }
    const uint64_t all = epoch_ << 32 | static_cast<uint64_t>(chunks);
    for (int spin = 0; phase.done.load(std::memory_order_acquire) != all; spin++) {
        if (phase.done.load(std::memory_order_relaxed) >> 32 != epoch_) return false;
        if (spin < SPINS) _mm_pause();
        else std::this_thread::yield();
    }
    return true;
}

}  // namespace mmagent
