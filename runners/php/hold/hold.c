/*
 * Hold a booted PHP until its program arrives: an extension that only the waiting interpreter loads.
 *
 * When every module has started, and before the interpreter opens main.php, it waits for arguments and
 * environment; then all that follows is PHP's own way of opening, compiling and running the file. No script could
 * do that: one that is run ahead is to be seen in get_included_files() for good, and main.php is opened before it.
 */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "SAPI.h"
#include "php.h"

#define NAME "runyard_hold"
#define DESCRIPTOR "RUNYARD_HOLD_FD"
/* More than any job holds: 64 arguments and 64 variables of 4 KiB. */
#define MAX_MESSAGE (1u << 20)

static zend_result (*next_post_startup)(void);
static int (*next_activate)(void);
static char *arguments;
static char *arguments_end;

static void read_exactly(int fd, char *into, size_t length)
{
	while (length > 0) {
		ssize_t count = read(fd, into, length);
		if (count < 0 && errno == EINTR) {
			continue;
		}
		if (count <= 0) {
			_exit(0); /* the agent is gone */
		}
		into += count;
		length -= (size_t) count;
	}
}

static uint32_t number_at(const char *at)
{
	const unsigned char *byte = (const unsigned char *) at;

	return (uint32_t) byte[0] << 24 | (uint32_t) byte[1] << 16 | (uint32_t) byte[2] << 8 | byte[3];
}

/* Take the length before a part, which the part then follows; a message that does not add up ends the process. */
static uint32_t take_length(char **at, const char *end)
{
	if (end - *at < 4 || number_at(*at) > (uint32_t) (end - *at - 4)) {
		_exit(127);
	}
	*at += 4;
	return number_at(*at - 4);
}

/* A copy with a NUL behind it, for good. */
static char *text_of(const char *at, uint32_t length)
{
	char *text = malloc((size_t) length + 1);

	if (text == NULL) {
		_exit(127);
	}
	memcpy(text, at, length);
	text[length] = '\0';
	return text;
}

static zend_result wait_for_the_program(void)
{
	const char *descriptor = getenv(DESCRIPTOR);

	if (next_post_startup != NULL && next_post_startup() != SUCCESS) {
		return FAILURE;
	}
	if (descriptor == NULL) {
		return SUCCESS;
	}
	int fd = atoi(descriptor);
	unsetenv(DESCRIPTOR);

	char head[4];
	read_exactly(fd, head, sizeof head);
	uint32_t length = number_at(head);
	char *at = length <= MAX_MESSAGE ? malloc((size_t) length + 1) : NULL;
	if (at == NULL) {
		_exit(127);
	}
	read_exactly(fd, at, length);
	close(fd);

	char *end = at + length;
	uint32_t size = take_length(&at, end);
	arguments = at;
	arguments_end = at + size;
	at = arguments_end;
	size = take_length(&at, end);
	for (end = at + size; at < end; at += size) {
		size = take_length(&at, end);
		char *name = text_of(at, size);
		char *equals = strchr(name, '=');
		if (equals != NULL) {
			*equals = '\0';
			setenv(name, equals + 1, 1);
		}
		free(name);
	}
	return SUCCESS;
}

/* Leave the list of modules, which get_loaded_extensions() shows. The library stays mapped: this is running. */
static void forget(void)
{
	dtor_func_t destructor = module_registry.pDestructor;

	module_registry.pDestructor = NULL;
	zend_hash_str_del(&module_registry, NAME, sizeof NAME - 1);
	module_registry.pDestructor = destructor;
}

/* At the start of the one request, when the interpreter has put argc and argv there: add the program's own. */
static int add_the_arguments(void)
{
	int count = SG(request_info).argc;
	char **all;

	sapi_module.activate = next_activate;
	/* Each takes four bytes or more of the message. */
	all = malloc(((size_t) count + (size_t) (arguments_end - arguments) / 4 + 1) * sizeof *all);
	if (all == NULL) {
		_exit(127);
	}
	memcpy(all, SG(request_info).argv, (size_t) count * sizeof *all);
	for (char *at = arguments; at < arguments_end;) {
		uint32_t size = take_length(&at, arguments_end);
		all[count++] = text_of(at, size);
		at += size;
	}
	all[count] = NULL;
	SG(request_info).argc = count;
	SG(request_info).argv = all;
	forget();
	return next_activate != NULL ? next_activate() : SUCCESS;
}

static PHP_MINIT_FUNCTION(runyard_hold)
{
	(void) type;
	(void) module_number;
	next_post_startup = zend_post_startup_cb;
	zend_post_startup_cb = wait_for_the_program;
	next_activate = sapi_module.activate;
	sapi_module.activate = add_the_arguments;
	return SUCCESS;
}

static zend_module_entry runyard_hold_module_entry = {
	STANDARD_MODULE_HEADER, NAME, NULL, PHP_MINIT(runyard_hold), NULL, NULL, NULL, NULL, "1",
	STANDARD_MODULE_PROPERTIES
};

ZEND_GET_MODULE(runyard_hold)
