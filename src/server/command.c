/* command.c: see command.h. */
#include "server/command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/server.h"

#define MANAGER_DATA_MAX 8192 /* its questions must be shorter: it has children to look after */
#define LOOK_EVERY_MS 10      /* for a target that is being started */
#define NEVER_BORN UINT32_MAX /* instead of a life: there will be none */
#define ALL_TYPES (SRVLUA_COMMAND_MASTER | SRVLUA_COMMAND_EVENT_WORKER | SRVLUA_COMMAND_TASK_WORKER | SRVLUA_COMMAND_MANAGER)

struct command_head { /* in front of a question's data */
    uint32_t born; /* of the life that is asked; 0: the manager */
    int32_t flags;
};

struct target {
    bool is_here, is_manager;
    uint32_t slot; /* of a worker */
};

struct sv_question {
    struct sv_question *next;
    uint64_t id; /* the asker's pid and a count: no other life's answer is taken for ours */
    srvlua_command_callback callback;
    void *user_data;
    struct target target;
    uint32_t endpoint, parity, born; /* of the life that was asked */
    bool is_held;                    /* it waits for its target's start: the rest is set */
    int32_t command;
    int32_t flags;
    size_t length;
    unsigned char data[];
};

struct sv_answer { /* of the running handler */
    struct sv_answer *outer;
    bool is_given, is_here;
    uint32_t to;
    uint64_t id;
    unsigned char *data; /* is_here: the answer */
    size_t length;
};

/* ------------------------------------------------------------------------------------------------------ registering */

static const struct sv_command *find_command(const srvlua_server *server, const char *name) {
    for (size_t i = 0; i < server->commands.count; i++)
        if (strcmp(server->commands.items[i].name, name) == 0) return &server->commands.items[i];
    return NULL;
}

int srvlua_add_command(srvlua_server *server, const char *name, int types, srvlua_command_handler handler, void *user_data,
                       struct srvlua_status *status) {
    struct sv_commands *commands = &server->commands;
    int result = sv_check_call(server, SV_CALL_CONFIGURE, status);
    if (result) return result;
    if (find_command(server, name)) return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "there is a command '%s' already", name);
    if (!types || types & ~ALL_TYPES)
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "%d is no set of process types that take commands", types);
    struct sv_command *grown = realloc(commands->items, (commands->count + 1) * sizeof *grown);
    if (!grown) return sv_server_fail(server, status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    commands->items = grown;
    grown[commands->count] = (struct sv_command){strdup(name), types, handler, user_data};
    if (!grown[commands->count].name) return sv_server_fail(server, status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    commands->count++;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- answering */

static void run_handler(srvlua_server *server, const struct sv_command *command, const struct srvlua_command_request *request,
                        struct sv_answer *answer) {
    bool is_worker = server->rt.role & (SRVLUA_ROLE_WORKER | SRVLUA_ROLE_TASK);
    answer->outer = server->commands.answering;
    server->commands.answering = answer;
    if (is_worker) sv_worker_begin(&server->rt, 0);
    command->handler(server, request, command->user_data);
    if (!answer->is_given) srvlua_command_reply(server, "", 0);
    if (is_worker) sv_worker_end(&server->rt);
    server->commands.answering = answer->outer;
}

void srvlua_command_reply(srvlua_server *server, const void *data, size_t length) {
    struct sv_answer *answer = server->commands.answering;
    struct sv_endpoint *endpoint = &server->rt.endpoint;
    if (!answer || answer->is_given) return;
    answer->is_given = true;
    if (answer->is_here) {
        answer->data = malloc(length + 1);
        answer->length = length;
        if (answer->data) memcpy(answer->data, data, length);
        return;
    }
    if (sv_outbox_send(&server->commands.outbox, endpoint, answer->to, SV_RECORD_COMMAND_REPLY, answer->id, 0, NULL, 0, data, length)) {
        sv_log_write(&server->log, SRVLUA_LOG_ERROR, "out of memory: the answer to a command is lost");
        sv_outbox_send(&server->commands.outbox, endpoint, answer->to, SV_RECORD_COMMAND_REPLY, answer->id, SRVLUA_ERROR_MALLOC_FAIL, NULL, 0, NULL, 0);
    }
    sv_kick(endpoint, answer->to); /* rare and short: at once, whatever comes next here */
}

static bool is_for_this_life(const srvlua_server *server, const struct command_head *head) {
    const struct sv_runtime *rt = &server->rt;
    if (rt->role == SRVLUA_ROLE_MANAGER) return true;
    return rt->slot >= 0 && head->born == atomic_load(&rt->slots[rt->slot].born[rt->parity]);
}

static void take_question(srvlua_server *server, const struct sv_message *message) {
    struct command_head head;
    if (message->length < sizeof head || message->value < 0 || (size_t)message->value >= server->commands.count) return;
    memcpy(&head, message->payload, sizeof head);
    if (!is_for_this_life(server, &head)) return; /* its asker has been told that the other one is dead */
    const struct sv_command *command = &server->commands.items[message->value];
    struct srvlua_command_request request = {.name = command->name,
                                             .data = message->payload + sizeof head,
                                             .length = message->length - sizeof head,
                                             .flags = head.flags};
    struct sv_answer answer = {.to = message->source, .id = message->id};
    run_handler(server, command, &request, &answer);
}

/* --------------------------------------------------------------------------------------------------------- asking */

static void call_back(srvlua_server *server, srvlua_command_callback callback, void *user_data, int code, const void *data, size_t length) {
    bool is_worker = server->rt.role & (SRVLUA_ROLE_WORKER | SRVLUA_ROLE_TASK);
    if (is_worker) sv_worker_begin_running(&server->rt);
    int result = callback(server, code, data, length, user_data);
    if (is_worker) sv_worker_end_running(&server->rt);
    if (result) srvlua_callback_failed(server);
}

static int answer_here(srvlua_server *server, const struct sv_command *command, const struct srvlua_command_request *request,
                       srvlua_command_callback callback, void *user_data) {
    struct sv_answer answer = {.is_here = true};
    run_handler(server, command, request, &answer);
    call_back(server, callback, user_data, answer.data ? 0 : SRVLUA_ERROR_MALLOC_FAIL, answer.data, answer.length);
    free(answer.data);
    return 0;
}

/* Which life serves a slot now: false if there is none. A life's pid is stored after its birth and cleared before the next one's. */
static bool find_life(const struct sv_runtime *rt, uint32_t slot, uint32_t *parity, uint32_t *born) {
    const struct sv_slot *shared = &rt->slots[slot];
    *parity = atomic_load(&shared->parity) & 1;
    *born = atomic_load(&shared->born[*parity]);
    return atomic_load(&shared->pid[*parity]) != 0 && *born == atomic_load(&shared->born[*parity]);
}

/* Sends the question, if its target lives. 0; -EAGAIN: it does not; -ENOMEM. */
static int ask(srvlua_server *server, struct sv_question *question, int32_t command, int flags, const void *data, size_t length) {
    struct sv_runtime *rt = &server->rt;
    bool has_life = question->target.is_manager || find_life(rt, question->target.slot, &question->parity, &question->born);
    question->endpoint = question->target.is_manager ? SV_ENDPOINT_MANAGER
                                                     : sv_endpoint_of_slot(&rt->ipc, question->target.slot, question->parity);
    if (!has_life) return -EAGAIN;
    struct command_head head = {.born = question->born, .flags = flags};
    int result = sv_outbox_send(&server->commands.outbox, &rt->endpoint, question->endpoint, SV_RECORD_COMMAND, question->id, command,
                                &head, sizeof head, data, length);
    sv_kick(&rt->endpoint, question->endpoint);
    return result;
}

static int look_again(srvlua_loop *loop, int64_t timer, void *context) { /* makes the loop turn */
    (void)loop, (void)timer, (void)context;
    return 0;
}

static void update_ticker(srvlua_server *server) {
    struct sv_commands *commands = &server->commands;
    struct srvlua_loop *loop = &server->rt.loop;
    if (commands->held && commands->ticker <= 0) commands->ticker = sv_timer_add_internal(loop, LOOK_EVERY_MS, true, look_again, NULL);
    if (commands->held || commands->ticker <= 0) return;
    sv_timer_clear_internal(loop, commands->ticker);
    commands->ticker = 0;
}

static void append(struct sv_commands *commands, struct sv_question *question) {
    question->next = NULL;
    if (commands->last)
        commands->last->next = question;
    else
        commands->first = question;
    commands->last = question;
}

/* The same question with its data, to be asked as soon as its target has been started. */
static struct sv_question *hold(struct sv_question *question, int32_t command, const struct srvlua_command_request *request) {
    struct sv_question *held = realloc(question, sizeof *held + request->length);
    if (!held) {
        free(question);
        return NULL;
    }
    held->is_held = true;
    held->command = command;
    held->flags = request->flags;
    held->length = request->length;
    if (request->length) memcpy(held->data, request->data, request->length);
    return held;
}

/* Questions to one process keep their order. */
static bool is_holding(const struct sv_commands *commands, const struct target *target) {
    for (const struct sv_question *question = commands->held ? commands->first : NULL; question; question = question->next)
        if (question->is_held && question->target.slot == target->slot) return !target->is_manager;
    return false;
}

static int ask_target(srvlua_server *server, int32_t command, const struct srvlua_command_request *request, const struct target *target,
                      srvlua_command_callback callback, void *user_data) {
    struct sv_commands *commands = &server->commands;
    struct sv_question *question = malloc(sizeof *question);
    if (!question) return -ENOMEM;
    *question = (struct sv_question){.id = (uint64_t)(uint32_t)getpid() << 32 | ++commands->asked,
                                     .callback = callback,
                                     .user_data = user_data,
                                     .target = *target};
    int result = is_holding(commands, target) ? -EAGAIN : ask(server, question, command, request->flags, request->data, request->length);
    if (result == -EAGAIN) {
        question = hold(question, command, request);
        if (!question) return -ENOMEM;
        commands->held++;
        update_ticker(server);
    } else if (result) {
        free(question);
        return result;
    }
    append(commands, question);
    return 0;
}

/* The command that a request names, if the calling process may ask for it and the target may be asked; NULL: *result says why not. */
static const struct sv_command *check(srvlua_server *server, const struct srvlua_command_request *request, int type, int *result,
                                      struct srvlua_status *status) {
    const struct sv_runtime *rt = &server->rt;
    enum srvlua_role role = srvlua_get_role(server);
    bool may_ask = server->mode == SRVLUA_PROCESS ? role == SRVLUA_ROLE_MASTER : role == SRVLUA_ROLE_WORKER && rt->slot == 0;
    const struct sv_command *command = find_command(server, request->name);
    bool is_type = type == SRVLUA_COMMAND_REACTOR_THREAD || (type & ALL_TYPES && !(type & ~ALL_TYPES) && !(type & (type - 1)));
    if (!may_ask)
        *result = sv_server_fail(server, status, SRVLUA_ERROR_WRONG_OPERATION, "commands are sent by the %s",
                                 server->mode == SRVLUA_PROCESS ? "running master" : "running worker 0");
    else if (!command)
        *result = sv_server_fail(server, status, SRVLUA_ERROR_SERVER_INVALID_COMMAND, "there is no command '%s'", request->name);
    else if (!is_type)
        *result = sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "%d is no type of processes", type);
    else if (!(command->types & type))
        *result = sv_server_fail(server, status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "processes of type %d do not take the command '%s'",
                                 type, request->name);
    else if (type == SRVLUA_COMMAND_MANAGER && !atomic_load(&rt->shared->manager_pid))
        *result = sv_server_fail(server, status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "there is no manager");
    else
        return command;
    return NULL;
}

static int find_target(srvlua_server *server, int64_t id, int type, struct target *target, struct srvlua_status *status) {
    const struct sv_runtime *rt = &server->rt;
    *target = (struct target){.is_here = type == SRVLUA_COMMAND_MASTER, .is_manager = type == SRVLUA_COMMAND_MANAGER};
    if (target->is_here || target->is_manager) return 0;
    bool is_task = type == SRVLUA_COMMAND_TASK_WORKER;
    if (id < 0 || id > UINT32_MAX) sv_log_write(&server->log, SRVLUA_LOG_WARNING, "command: invalid process_id %lld", (long long)id);
    if (id < 0 || id >= (is_task ? rt->config.task_workers : rt->config.workers))
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "there is no %s worker %lld", is_task ? "task" : "event",
                              (long long)id);
    target->slot = (uint32_t)id + (is_task ? rt->config.workers : 0);
    target->is_here = rt->role == SRVLUA_ROLE_WORKER && target->slot == (uint32_t)rt->slot;
    return 0;
}

int srvlua_command(srvlua_server *server, const struct srvlua_command_request *request, int64_t process_id, int process_type,
                   srvlua_command_callback callback, void *user_data, struct srvlua_status *status) {
    struct target target;
    int result;
    const struct sv_command *command = check(server, request, process_type, &result, status);
    if (!command) return result;
    result = find_target(server, process_id, process_type, &target, status);
    if (result) return result;
    if (target.is_manager && request->length >= MANAGER_DATA_MAX)
        return sv_server_fail(server, status, SRVLUA_ERROR_DATA_LENGTH_TOO_LARGE, "%zu bytes are too many for the manager: less than %d",
                              request->length, MANAGER_DATA_MAX);
    if (target.is_here) return answer_here(server, command, request, callback, user_data);
    result = ask_target(server, (int32_t)(command - server->commands.items), request, &target, callback, user_data);
    return result ? sv_server_fail(server, status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory") : 0;
}

/* --------------------------------------------------------------------------------------------- answers and deaths */

/* Takes out the question behind `previous` (NULL: the first). */
static struct sv_question *unlink_after(struct sv_commands *commands, struct sv_question *previous) {
    struct sv_question *question = previous ? previous->next : commands->first;
    if (previous)
        previous->next = question->next;
    else
        commands->first = question->next;
    if (commands->last == question) commands->last = previous;
    if (question->is_held) commands->held--;
    return question;
}

static void end_question(srvlua_server *server, struct sv_question *question, int code, const void *data, size_t length) {
    struct sv_question ended = *question;
    free(question);
    update_ticker(server);
    call_back(server, ended.callback, ended.user_data, code, data, length);
}

static void take_answer(srvlua_server *server, const struct sv_message *message) {
    struct sv_commands *commands = &server->commands;
    struct sv_question *previous = NULL;
    for (struct sv_question *question = commands->first; question; previous = question, question = question->next) {
        if (question->is_held || question->id != message->id || question->endpoint != message->source) continue;
        unlink_after(commands, previous);
        end_question(server, question, message->value, message->payload, message->length);
        return;
    }
}

static bool is_dead(const struct sv_runtime *rt, const struct sv_question *question) {
    if (rt->is_manager_dead) return true; /* and all others with it */
    if (question->target.is_manager) return false;
    const struct sv_slot *slot = &rt->slots[question->target.slot];
    return atomic_load(&slot->pid[question->parity]) == 0 || atomic_load(&slot->born[question->parity]) != question->born;
}

/* Asks what is held, if its target lives by now. False: it stays as it is. */
static bool go_on_with_held(srvlua_server *server, struct sv_question *question) {
    struct sv_commands *commands = &server->commands;
    int result = ask(server, question, question->command, question->flags, question->data, question->length);
    if (result == -EAGAIN && !atomic_load(&server->rt.shared->is_shutting_down) && !server->rt.is_manager_dead) return false;
    question->is_held = false;
    commands->held--;
    update_ticker(server);
    if (result) question->born = NEVER_BORN;
    return true;
}

static struct sv_question *find_dead(srvlua_server *server) {
    for (struct sv_question *question = server->commands.first; question; question = question->next) {
        if (question->is_held && !go_on_with_held(server, question)) continue;
        if (is_dead(&server->rt, question)) return question;
    }
    return NULL;
}

/* What a dead process had said comes first, then 9003 for each question that it has not answered. */
static void bury(srvlua_server *server, const struct sv_question *found) {
    struct sv_runtime *rt = &server->rt;
    struct sv_commands *commands = &server->commands;
    struct sv_question dead = *found, *lost = NULL, **end = &lost, *previous = NULL, *next;
    sv_receive_from(&rt->endpoint, dead.endpoint, rt->loop.hooks.receive, rt->loop.hooks.context);
    for (struct sv_question *question = commands->first; question; question = next) {
        next = question->next;
        bool is_lost = !question->is_held && question->endpoint == dead.endpoint && question->born == dead.born;
        if (!is_lost) {
            previous = question;
            continue;
        }
        *end = unlink_after(commands, previous);
        question->next = NULL;
        end = &question->next;
    }
    for (struct sv_question *question = lost; question; question = next) {
        next = question->next;
        sv_outbox_drop(&commands->outbox, question->endpoint, question->id);
        end_question(server, question, SRVLUA_ERROR_SERVER_WORKER_TERMINATED, NULL, 0);
    }
}

void sv_commands_look(void *context) {
    srvlua_server *server = context;
    struct sv_question *dead;
    if (server->commands.outbox.first) sv_outbox_flush(&server->commands.outbox, &server->rt.endpoint);
    server->rt.has_answers = server->commands.outbox.first != NULL;
    while (server->commands.first && (dead = find_dead(server))) bury(server, dead);
}

void sv_commands_take(void *context, const struct sv_message *message) {
    if (message->type == SV_RECORD_COMMAND)
        take_question(context, message);
    else
        take_answer(context, message);
}

void sv_commands_forget(srvlua_server *server) {
    struct sv_commands *commands = &server->commands;
    while (commands->first) free(unlink_after(commands, NULL));
    sv_outbox_free(&commands->outbox);
    commands->ticker = 0;
    commands->answering = NULL;
}

void sv_commands_free(srvlua_server *server) {
    sv_commands_forget(server);
    for (size_t i = 0; i < server->commands.count; i++) free(server->commands.items[i].name);
    free(server->commands.items);
}
