// A fan-out server as the documentation of uWebSockets has it: one thread, a topic per symbol,
// `App::publish` for each tick. README.md says which settings and why.

#include <cstdlib>
#include <iostream>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <App.h>

#include "messages.h"

namespace {

// Bytes queued for one subscriber; what exceeds them is dropped. Generous, so that the burst of a
// market's open or a ramp loses nothing.
constexpr unsigned BACKPRESSURE_BYTES_MAX = 64 << 20;
constexpr unsigned REQUEST_BYTES_MAX = 64 << 10;
constexpr unsigned PUBLISH_BYTES_MAX = 16 << 20;
// Its default: silence after which a connection is closed; it is pinged some seconds before.
constexpr unsigned short IDLE_S = 120;

struct Subscriber {};

struct Publisher {
    uint64_t ticks = 0;
    uint64_t messages = 0;
};

std::string subscribe_ack(uint64_t id, const std::vector<std::string_view> &symbols) {
    auto ack = "{\"type\":\"ack\",\"id\":" + std::to_string(id) +
               ",\"op\":\"subscribe\",\"symbols\":[";
    for (size_t index = 0; index < symbols.size(); index++) {
        ack.append(index == 0 ? "\"" : ",\"").append(symbols[index]).append("\"");
    }
    return ack.append("],\"rejected\":[]}");
}

std::string flush_ack(uint64_t id, const Publisher &publisher) {
    return "{\"type\":\"ack\",\"id\":" + std::to_string(id) +
           ",\"accepted\":" + std::to_string(publisher.ticks) +
           ",\"rejected\":0,\"duplicates\":0,\"messages\":" + std::to_string(publisher.messages) +
           "}";
}

template <typename Data> uWS::App::WebSocketBehavior<Data> behavior(unsigned payload_bytes_max) {
    uWS::App::WebSocketBehavior<Data> behavior;
    behavior.compression = uWS::DISABLED;
    behavior.maxPayloadLength = payload_bytes_max;
    behavior.idleTimeout = IDLE_S;
    behavior.maxBackpressure = BACKPRESSURE_BYTES_MAX;
    behavior.closeOnBackpressureLimit = false;
    behavior.resetIdleTimeoutOnSend = false;
    behavior.sendPingsAutomatically = true;
    return behavior;
}

void serve_subscribers(uWS::App &app) {
    auto subscribers = behavior<Subscriber>(REQUEST_BYTES_MAX);
    subscribers.message = [](auto *socket, std::string_view message, uWS::OpCode) {
        if (!messages::is_operation(message, "subscribe")) {
            return;
        }
        auto symbols = messages::symbols(message);
        // Before the subscriptions, so that no tick overtakes the ack.
        socket->send(subscribe_ack(messages::id(message), symbols), uWS::TEXT);
        for (auto symbol : symbols) {
            socket->subscribe(symbol);
        }
    };
    app.ws<Subscriber>("/v1/ws", std::move(subscribers));
}

// Publishes the ticks of a message, and returns how many they are.
uint64_t publish(uWS::App &app, std::string_view message) {
    uint64_t ticks = 0;
    messages::each_tick(message, [&](std::string_view tick) {
        app.publish(messages::symbol(tick), tick, uWS::TEXT);
        ticks++;
    });
    return ticks;
}

// Has publishers served by `take`, which gets a message and returns how many ticks it holds.
template <typename Take> void serve_publishers(uWS::App &app, Take take) {
    auto publishers = behavior<Publisher>(PUBLISH_BYTES_MAX);
    publishers.message = [take](auto *socket, std::string_view message, uWS::OpCode) {
        Publisher &publisher = *socket->getUserData();
        if (messages::is_operation(message, "flush")) {
            socket->send(flush_ack(messages::id(message), publisher), uWS::TEXT);
            return;
        }
        publisher.ticks += take(message);
        publisher.messages++;
    };
    app.ws<Publisher>("/v1/publish", std::move(publishers));
}

// Publishes in the handler, as all examples of the library do.
void publish_at_once(uWS::App &app) {
    serve_publishers(app, [&app](std::string_view message) { return publish(app, message); });
}

// Publishes after the handlers of a turn.
//
// In a handler the publisher's socket holds the one buffer in which writes are gathered, so that a
// subscriber with more than 32 messages in a turn gets a system call for each of them. The library
// drains the topics once more before it waits, so nothing is held back.
void publish_after_handlers(uWS::App &app) {
    static std::vector<std::string> taken;
    serve_publishers(app, [](std::string_view message) {
        taken.emplace_back(message);
        uint64_t ticks = 0;
        messages::each_tick(message, [&](std::string_view) { ticks++; });
        return ticks;
    });
    uWS::Loop::get()->addPostHandler(&taken, [&app](uWS::Loop *) {
        for (const auto &message : taken) {
            publish(app, message);
        }
        taken.clear();
    });
}

// A file per connection: as many as the system allows.
void raise_file_limit() {
    rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

// The value of an option, empty if it is not given. The secret and the scratch folder are of no
// use here.
std::string_view option(int argc, char **argv, std::string_view name) {
    for (int index = 1; index + 1 < argc; index += 2) {
        if (argv[index] == name) {
            return argv[index + 1];
        }
    }
    return {};
}

} // namespace

int main(int argc, char **argv) {
    int port = std::atoi(std::string(option(argc, argv, "--port")).c_str());
    auto when = option(argc, argv, "--publish");
    if (port < 1 || port > 65535 || (!when.empty() && when != "at-once" && when != "after-handlers")) {
        std::cerr << "usage: server --port P [--publish at-once|after-handlers]\n";
        return 2;
    }
    raise_file_limit();
    uWS::App app;
    serve_subscribers(app);
    when == "after-handlers" ? publish_after_handlers(app) : publish_at_once(app);
    bool listening = false;
    app.listen("127.0.0.1", port, [&](auto *socket) { listening = socket != nullptr; });
    if (!listening) {
        std::cerr << "127.0.0.1:" << port << ": cannot listen\n";
        return 1;
    }
    app.run();
}
