# srvlua: everything that is built goes to build/ (or to BUILD=...); `make help` lists the targets.

BUILD    ?= build
PREFIX   ?= /usr/local
BINDIR   ?= $(PREFIX)/bin
LIBDIR   ?= $(PREFIX)/lib
INCDIR   ?= $(PREFIX)/include
LUADIR   ?= $(PREFIX)/share/lua/5.1
LUACDIR  ?= $(PREFIX)/lib/lua/5.1
PORT     ?= 9501
WERROR   ?= 1
SANITIZE ?=

VERSION := $(shell sed -n 's/^\#define SRVLUA_VERSION "\(.*\)"/\1/p' include/srvlua.h)

# LuaJIT: what pkg-config says; else LUA_INCDIR (LuaRocks passes one, which need not be LuaJIT's).
PKG_CONFIG ?= pkg-config
LUA_INCDIR ?= /usr/include/luajit-2.1
LUA_CFLAGS := $(shell $(PKG_CONFIG) --cflags luajit 2>/dev/null || echo -I$(LUA_INCDIR))
LUA_LIBS   := $(shell $(PKG_CONFIG) --libs luajit 2>/dev/null || echo -lluajit-5.1)

CFLAGS   ?= -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wvla $(if $(filter 1,$(WERROR)),-Werror)
# Fences, which the thread sanitizer does not follow, only order atomics here (bells); data is published by its ring's tail.
SANITIZER := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=undefined) \
             $(if $(filter thread,$(SANITIZE)),-Wno-tsan)
# Objects serve the static library, the shared one and the Lua module alike, so all are position independent.
ALL_CFLAGS := -std=gnu11 $(WARNINGS) -fvisibility=hidden -fPIC -fno-omit-frame-pointer -pthread $(SANITIZER) $(CFLAGS)
ALL_CPPFLAGS := -D_GNU_SOURCE -Iinclude -Isrc $(CPPFLAGS)
ALL_LDFLAGS := -pthread -Wl,--as-needed $(SANITIZER) $(LDFLAGS)
# The binding alone uses c-ares.
BINDING_LIBS := $(shell $(PKG_CONFIG) --libs libcares 2>/dev/null || echo -lcares)
LIBS := -lev -lmbedtls -lmbedx509 -lmbedcrypto -lpthread -lm -ldl

# ---------------------------------------------------------------------------------------------------- what is there

# The layers in their order: a folder includes only folders before it (.ci/check-layers).
LAYERS   := base shm framing net ipc reactor process server protocol
LIB_SRC  := $(foreach layer,$(LAYERS),$(wildcard src/$(layer)/*.c))
LUA_SRC  := $(wildcard src/lua/*.c src/lua/client/*.c)
BIN_SRC  := $(wildcard src/bin/*.c)
UNIT_SRC := $(wildcard spec/unit/test_*.c)
BENCH_SRC := $(wildcard bench/*.c)
LUA_FILES := $(shell find lua -name '*.lua' 2>/dev/null)

LIB_OBJ  := $(LIB_SRC:src/%.c=$(BUILD)/obj/%.o)
LUA_OBJ  := $(LUA_SRC:src/%.c=$(BUILD)/obj/%.o)
BIN_OBJ  := $(BIN_SRC:src/%.c=$(BUILD)/obj/%.o)
UNIT_BIN := $(UNIT_SRC:spec/unit/%.c=$(BUILD)/unit/%)
BENCH_BIN := $(BENCH_SRC:bench/%.c=$(BUILD)/bench/%)

LAUNCHER   := $(BUILD)/srvlua
STATIC_LIB := $(BUILD)/libsrvlua.a
SHARED_LIB := $(BUILD)/libsrvlua.so
LUA_MODULE := $(BUILD)/lua/srvlua/core.so
EMBED      := $(BUILD)/embed/echo $(BUILD)/embed/framed_tls
# Each file but main.c is a target of the fuzzer; the parsers need nothing else of the library.
FUZZ_SRC := $(filter-out spec/fuzz/main.c,$(wildcard spec/fuzz/*.c))
FUZZ_BIN := $(FUZZ_SRC:spec/fuzz/%.c=$(BUILD)/fuzz/%)
FUZZED   := $(wildcard src/framing/*.c)
FUZZ_HEADERS := $(wildcard spec/fuzz/*.h src/framing/*.h) spec/unit/stream.h
CLANG    ?= clang
FUZZER   := -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
SETTINGS_DOC := $(BUILD)/settings-doc

# Debian's names of what is needed to build and run, and of what tests and lint add.
RUN_PACKAGES  := gcc libc6-dev make binutils pkg-config luajit libluajit-5.1-dev libev-dev libmbedtls-dev \
                 libc-ares-dev lua-cjson netcat-openbsd
TEST_PACKAGES := lua-busted lua-socket lua-filesystem lua-check cppcheck luarocks git python3 redis-server openssl haproxy \
                 mosquitto-clients
FUZZ_PACKAGES := clang libclang-rt-dev

.PHONY: all test bench lint asan tsan fuzz docs install deps run clean help unit embed
.DELETE_ON_ERROR:

all: $(LAUNCHER) $(STATIC_LIB) $(SHARED_LIB) $(LUA_MODULE) ## build launcher, libraries and the Lua module (the default)

# ------------------------------------------------------------------------------------------------------------ rules

# One short line per step; `make V=1` shows the commands.
step = $(if $(V),,@printf '%-4s %s\n' $(1) $@;)

$(BUILD)/obj/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	$(call step,CC)$(CC) $(ALL_CPPFLAGS) $(if $(filter lua/% bin/%,$*),$(LUA_CFLAGS)) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(STATIC_LIB): $(LIB_OBJ)
	@rm -f $@
	$(call step,AR)$(AR) rcs $@ $(LIB_OBJ)

$(SHARED_LIB): $(LIB_OBJ)
	$(call step,LD)$(CC) $(ALL_LDFLAGS) -shared -Wl,-z,defs -Wl,-soname,libsrvlua.so -o $@ $(LIB_OBJ) $(LIBS)

# A stock interpreter brings LuaJIT's own functions; linking them again could give the process two copies.
$(LUA_MODULE): $(LUA_OBJ) $(STATIC_LIB)
	@mkdir -p $(@D)
	$(call step,LD)$(CC) $(ALL_LDFLAGS) -shared -Wl,--exclude-libs,libsrvlua.a -o $@ $(LUA_OBJ) $(STATIC_LIB) $(BINDING_LIBS) $(LIBS)

$(LAUNCHER): $(BIN_OBJ) $(LUA_OBJ) $(STATIC_LIB)
	$(call step,LD)$(CC) $(ALL_LDFLAGS) -o $@ $(BIN_OBJ) $(LUA_OBJ) $(STATIC_LIB) $(LUA_LIBS) $(BINDING_LIBS) $(LIBS)

$(BUILD)/unit/%: spec/unit/%.c $(STATIC_LIB)
	@mkdir -p $(@D)
	$(call step,LD)$(CC) $(ALL_CPPFLAGS) -Ispec/unit $(ALL_CFLAGS) -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $(filter %.c,$^) $(STATIC_LIB) $(LIBS)

$(BUILD)/unit/test_fuzz_inputs: $(FUZZ_SRC) $(FUZZ_HEADERS)

$(BUILD)/fuzz/%: spec/fuzz/%.c spec/fuzz/main.c $(FUZZED) $(FUZZ_HEADERS)
	@mkdir -p $(@D)
	$(call step,FUZZ)$(CLANG) $(ALL_CPPFLAGS) -Ispec/unit -DTARGET=fuzz_$* -std=gnu11 -O1 -g $(FUZZER) \
	    -o $@ $(filter %.c,$^)

$(BUILD)/bench/%: bench/%.c $(STATIC_LIB)
	@mkdir -p $(@D)
	$(call step,LD)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(STATIC_LIB) $(LIBS)

$(EMBED): $(BUILD)/embed/%: examples/embed/%.c include/srvlua.h $(STATIC_LIB)
	@mkdir -p $(@D)
	$(call step,LD)$(CC) -Iinclude $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< $(STATIC_LIB) $(LIBS)

$(SETTINGS_DOC): docs/settings_doc.c $(STATIC_LIB)
	$(call step,LD)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< $(STATIC_LIB) $(LIBS)

unit: $(UNIT_BIN)
embed: $(EMBED)

-include $(LIB_OBJ:.o=.d) $(LUA_OBJ:.o=.d) $(BIN_OBJ:.o=.d) $(UNIT_BIN:=.d) $(BENCH_BIN:=.d)

# ---------------------------------------------------------------------------------------------------------- targets

test: ## run all tests, installing what is missing; the last line is the sum: N passed, N failed
	@.ci/deps $(RUN_PACKAGES) $(TEST_PACKAGES) || echo 'Going on with what is there.'
	@$(MAKE) --no-print-directory all unit embed
	@BUILD=$(BUILD) spec/run

bench: all embed $(BENCH_BIN) ## measure against a raw epoll loop in the same run; BENCH=quick takes seconds
	@BUILD=$(BUILD) BENCH=$(or $(BENCH),full) bench/run
	@BUILD=$(BUILD) BENCH=$(or $(BENCH),full) bench/redis

lint: all $(SETTINGS_DOC) ## luacheck, cppcheck, the includes of the layers, symbols, generated docs; TIDY=1 adds clang-tidy
	@BUILD=$(BUILD) TIDY=$(TIDY) .ci/lint

asan: ## build with ASan and UBSan in build/asan and run the whole suite with that launcher
	@$(MAKE) --no-print-directory BUILD=build/asan SANITIZE=address,undefined all unit embed
	@.ci/sanitized asan

tsan: ## build with TSan in build/tsan and run the whole suite with that launcher
	@$(MAKE) --no-print-directory BUILD=build/tsan SANITIZE=thread all unit embed
	@.ci/sanitized tsan

fuzz: ## fuzz the parsers of what clients send with clang's libFuzzer, each for FUZZ_SECONDS (60); the last line is the sum
	@.ci/deps $(FUZZ_PACKAGES) || echo 'Going on with what is there.'
	@mkdir -p $(BUILD)/fuzz
	@echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | $(CLANG) $(FUZZER) -x c -o $(BUILD)/fuzz/probe - 2>/dev/null || \
	    { echo 'make fuzz needs clang with libFuzzer (Debian: $(FUZZ_PACKAGES)); CLANG=... names another one' >&2; exit 1; }
	@$(MAKE) --no-print-directory $(FUZZ_BIN)
	@BUILD=$(BUILD) FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) spec/fuzz/run

docs: $(SETTINGS_DOC) $(LAUNCHER) ## write docs/settings.md, docs/errors.md and lua/srvlua/meta/settings.lua from the tables in the source
	$(SETTINGS_DOC) > $(BUILD)/settings.md
	cp $(BUILD)/settings.md docs/settings.md
	$(LAUNCHER) docs/settings_meta.lua docs/settings.md > $(BUILD)/settings.lua
	cp $(BUILD)/settings.lua lua/srvlua/meta/settings.lua
	$(LAUNCHER) docs/errors_doc.lua > $(BUILD)/errors.md
	cp $(BUILD)/errors.md docs/errors.md

install: all ## install under PREFIX (/usr/local), staged below DESTDIR
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(INCDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LUACDIR)/srvlua
	install -m 755 $(LAUNCHER) $(DESTDIR)$(BINDIR)/srvlua
	install -m 644 include/srvlua.h $(DESTDIR)$(INCDIR)/srvlua.h
	install -m 644 $(STATIC_LIB) $(DESTDIR)$(LIBDIR)/libsrvlua.a
	install -m 755 $(SHARED_LIB) $(DESTDIR)$(LIBDIR)/libsrvlua.so
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCDIR@|$(INCDIR)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(LIBS)|' \
	    srvlua.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/srvlua.pc
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/srvlua.pc
	install -m 755 $(LUA_MODULE) $(DESTDIR)$(LUACDIR)/srvlua/core.so
	for file in $(LUA_FILES:lua/%=%); do install -D -m 644 "lua/$$file" "$(DESTDIR)$(LUADIR)/$$file" || exit 1; done

deps: ## install what is missing (Debian: apt, as root or through sudo; elsewhere: say what is needed)
	@.ci/deps $(RUN_PACKAGES) $(TEST_PACKAGES)

run: ## install what is missing, build, serve examples/echo.lua on PORT (9501) and say how to talk to it
	@.ci/deps $(RUN_PACKAGES)
	@$(MAKE) --no-print-directory all
	@echo
	@echo 'Echo server on port $(PORT); end it with Ctrl-C. In another terminal: echo hello | nc -N 127.0.0.1 $(PORT)'
	@$(LAUNCHER) examples/echo.lua $(PORT)

clean: ## remove everything that was built
	rm -rf $(BUILD)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile
