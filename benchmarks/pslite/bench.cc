// Push and pull of n out of 5 M stored keys through dmlc/ps-lite, one float a key: one scheduler, one server, one worker.
// Prints one line per n: "<n> <push seconds> <pull seconds>", medians. Built and run by benchmarks/push_pull.py.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iterator>
#include <random>
#include <vector>

#include "ps/ps.h"

namespace {

constexpr size_t kStored = 5000000;
constexpr size_t kChunk = 1000000;

double Seconds() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> seconds) {
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  return seconds[seconds.size() / 2];
}

// The server's stock handler adds what is pushed to what is stored.
void Serve() {
  auto* server = new ps::KVServer<float>(0);
  server->set_request_handle(ps::KVServerDefaultHandle<float>());
  ps::RegisterExitCallback([server] { delete server; });
}

void Work() {
  ps::KVWorker<float> worker(0, 0);
  std::mt19937_64 random(1);
  std::vector<ps::Key> stored(kStored);
  for (auto& key : stored) key = random() >> 1;
  std::sort(stored.begin(), stored.end());
  for (size_t i = 0; i < kStored; i += kChunk) {
    std::vector<ps::Key> keys(stored.begin() + i, stored.begin() + i + kChunk);
    worker.Wait(worker.Push(keys, std::vector<float>(keys.size(), 1.0f)));
  }

  for (size_t n : {1000, 10000, 100000, 1000000}) {
    std::vector<ps::Key> keys;
    std::sample(stored.begin(), stored.end(), std::back_inserter(keys), n, random);
    const std::vector<float> values(n, 0.5f);
    const int repeats = n <= 10000 ? 2000 : 20;
    std::vector<double> push, pull;
    for (int i = 0; i < repeats; ++i) {
      double start = Seconds();
      worker.Wait(worker.Push(keys, values));
      push.push_back(Seconds() - start);
      std::vector<float> rows;
      start = Seconds();
      worker.Wait(worker.Pull(keys, &rows));
      pull.push_back(Seconds() - start);
    }
    std::printf("%zu %.9f %.9f\n", n, Median(push), Median(pull));
    std::fflush(stdout);
  }
}

}  // namespace

int main() {
  ps::Start(0);
  if (ps::IsServer()) Serve();
  if (ps::IsWorker()) Work();
  ps::Finalize(0, true);
  return 0;
}
